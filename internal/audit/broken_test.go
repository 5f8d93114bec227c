package audit

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// refuses requires that the next try to sign signs nothing and shows a broken chain.
func (r *rig) refuses(want string) {
	r.t.Helper()
	signed := len(r.signer.signed)
	err := r.keeper.CatchUp(r.t.Context())
	var broken *BrokenError
	if !errors.As(err, &broken) || len(r.signer.signed) != signed {
		r.t.Fatalf("%v, and %d checkpoints are signed", err, len(r.signer.signed)-signed)
	}
	if why := r.keeper.Broken(); why != err.Error() || !strings.Contains(why, want) ||
		!strings.Contains(why, "keyd hsm accept-head --head ") {
		r.t.Errorf("it says %q, and not %q with the command", why, want)
	}
	if n := testutil.ToFloat64(r.keeper.Metrics.isBroken); n != 1 {
		r.t.Errorf("the metric is %v", n)
	}
}

// acceptHead is what root does on the HSM side's machine.
func (r *rig) acceptHead(seq uint64, reason string) key.SignedCheckpoint {
	r.t.Helper()
	before := r.signer.last
	return r.signer.sign(key.Checkpoint{Seq: seq, Head: key.Fingerprint(hashOf(r, seq)), Previous: before.Digest(),
		Break: &key.Break{Seq: before.Seq, Head: before.Head, Reason: reason}})
}

// The daemon is stopped, and somebody edits its file: who asked for a rotation, and why.
func TestInsiderAnEditedChainIsNotSignedAtTheNextStart(t *testing.T) {
	edit := func(n int, e *chain.Entry) bool {
		if n == 2 {
			e.Actor, e.Fields["reason"] = "schedule", "as planned"
		}
		return true
	}
	t.Run("checkpoints kept", func(t *testing.T) {
		story(t).rewrite(edit).refuses("entry 11 of the chain is sha256:")
	})
	t.Run("checkpoints taken out", func(t *testing.T) {
		story(t).rewrite(func(n int, e *chain.Entry) bool {
			return edit(n, e) && e.Event != chain.CheckpointSigned
		}).refuses("the chain ends with entry 10")
	})
	t.Run("checkpoints of another key put in", func(t *testing.T) {
		r := story(t)
		forged := r.rewrite(
			func(n int, e *chain.Entry) bool { return edit(n, e) && e.Event != chain.CheckpointSigned },
		)
		forged.signer = &signer{key: testKeys()[1], clock: r.clock}
		forged.restart()
		forged.sign()
		forged.add("sa", "key held")
		forged.signer = r.signer // the real HSM side
		forged.restart()
		forged.refuses("entry 11 of the chain is sha256:")
	})
	t.Run("cut off and gone on", func(t *testing.T) {
		cut := story(t).rewrite(func(n int, _ *chain.Entry) bool { return n <= 9 })
		cut.add("sa", "key held")
		cut.add("sa", "key held")
		cut.refuses("entry 11 of the chain is sha256:")
	})
}

func TestARestartHasTheChainComparedAtOnce(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.sign()
	r.restart()
	r.catchUp(2) // although none is due
	r.catchUp(2)
	if why := r.keeper.Broken(); why != "" {
		t.Errorf("a whole chain is called broken: %s", why)
	}
}

func TestABackupThatWasPutBackGoesOnWithAScar(t *testing.T) {
	r := story(t)
	old := r.rewrite(func(n int, _ *chain.Entry) bool { return n <= 9 })
	old.add("", "daemon started", "instance", "test")
	old.refuses("the chain ends with entry 10")
	cp := old.acceptHead(10, "the disk failed; restored the backup of Sunday")
	old.now = old.now.Add(time.Hour)
	if err := old.keeper.CatchUp(t.Context()); err != nil || old.keeper.Broken() != "" {
		t.Fatalf("after root accepted it: %v, %q", err, old.keeper.Broken())
	}
	if got := old.events(); got[10] != chain.BreakAccepted || got[11] != chain.CheckpointSigned {
		t.Errorf("the chain has %q", got[9:])
	}
	file := old.export(Request{})
	v := old.verify(file)
	if v.OK() || len(v.Breaks) != 1 || v.Breaks[0].ID != cp.BreakID() || v.Breaks[0].Accepted ||
		len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "restored the backup of Sunday") ||
		!strings.Contains(v.Problems[0], "--accept-break "+cp.BreakID()) {
		t.Errorf("%+v", v)
	}
	v, err := Verify(strings.NewReader(file), old.public(), Expect{Breaks: []string{cp.BreakID()}})
	if err != nil || !v.OK() || !v.Breaks[0].Accepted || v.SignedTo != 11 {
		t.Errorf("%+v, %v", v, err)
	}
	v, err = Verify(strings.NewReader(file), old.public(), Expect{Breaks: []string{cp.BreakID(), "0123456789abcdef"}})
	if err != nil || v.OK() || !strings.Contains(v.Problems[0], "the file has no break 0123456789abcdef") {
		t.Errorf("%+v, %v", v, err)
	}
	v, err = Verify(
		strings.NewReader(file),
		[]key.Material{public(testKeys()[1])},
		Expect{Breaks: []string{cp.BreakID()}},
	)
	if err != nil || v.OK() || !strings.Contains(strings.Join(v.Problems, " "), "by an audit key that is not given") {
		t.Errorf("%+v, %v", v, err)
	}
}

// keyd ends after the HSM side signed and before the chain has the signature.
func TestASignatureThatACrashLostIsRecordedAtTheNextOne(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.sign()
	x, err := r.keeper.extension(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.signer.SignCheckpoint(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.add("sa", "key held")
	if err := r.keeper.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := r.verify(r.export(Request{})); !v.OK() || v.Keys[0].Checkpoints != 3 {
		t.Errorf("%+v", v)
	}
}

func TestALongWayTakesSeveralCheckpoints(t *testing.T) {
	r := newRig(t)
	many := make([]chain.Entry, 2*chain.MaxStubs+1)
	for i := range many {
		many[i] = chain.Entry{Event: "daemon started", Actor: "keyd"}
	}
	if err := r.store.Append(t.Context(), many...); err != nil {
		t.Fatal(err)
	}
	c := r.sign()
	if n := len(r.signer.signed); n != 3 || c.Seq < uint64(len(many)) {
		t.Errorf("%d checkpoints to entry %d", n, c.Seq)
	}
	if v := r.verify(r.export(Request{})); !v.OK() {
		t.Errorf("%q", v.Problems)
	}
}

// An attacker holds the network side, has one checkpoint signed, and keeps it out of the chain.
func TestInsiderACheckpointLeftOutIsOutOfLine(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.sign()
	r.sign()
	r.sign()
	last := r.signer.last
	forged := newRig(t)
	forged.signer = r.signer
	forged.restart()
	err := r.store.Audit(t.Context(), 0, func(c chain.Linked) error {
		if c.Seq == 5 {
			c.Event, c.Fields = "daemon stopped", nil // it was the second checkpoint
		}
		return forged.store.Append(t.Context(), c.Entry)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := forged.keeper.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "it does not follow the one before it in this chain"
	if why := forged.keeper.Broken(); !strings.Contains(why, want) || last == nil {
		t.Errorf("the keeper says %q", why)
	}
	v := forged.verify(forged.export(Request{}))
	if v.OK() || !strings.Contains(strings.Join(v.Problems, "\n"), want) {
		t.Errorf("%q", v.Problems)
	}
}

// Audits from before checkpoints named their signer and predecessor still verify, and nothing of that form counts
// later.
func TestCheckpointsOfTheFirstFormVerifyOnlyBeforeTheSecond(t *testing.T) {
	r := newRig(t)
	r.signer.key = testKeys()[0]
	first := func(seq uint64) {
		s := signed{by: public(r.signer.key).Fingerprint()}
		s.Checkpoint = key.Checkpoint{Instance: "test", Seq: seq, Head: key.Fingerprint(hashOf(r, seq)), Time: r.now}
		digest := sha256.Sum256(s.Message())
		var err error
		if s.Signature, err = rsa.SignPKCS1v15(nil, r.signer.key, crypto.SHA256, digest[:]); err != nil {
			t.Fatal(err)
		}
		e := chain.Entry{Event: chain.CheckpointSigned, Actor: keyd, Fields: s.fields()}
		if err := r.store.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	r.add("", "daemon started", "instance", "test")
	first(1)
	r.sign()
	if v := r.verify(r.export(Request{})); !v.OK() || v.Keys[0].Checkpoints != 2 {
		t.Errorf("%+v", v)
	}
	first(4)
	if v := r.verify(r.export(Request{})); v.OK() || !strings.Contains(v.Problems[0], "it is of the old form") {
		t.Errorf("%q", v.Problems)
	}
}

// An old copy of the state may have consents that ended since. They must end before keyd goes on from it.
func TestAnAcceptedBreakIsRecordedOnlyAfterWhatItEnds(t *testing.T) {
	r := story(t).rewrite(func(n int, _ *chain.Entry) bool { return n <= 9 })
	r.add("", "daemon started", "instance", "test")
	r.refuses("the chain ends with entry 10")
	id := r.acceptHead(10, "restored the backup of Sunday").BreakID()
	told, full := []string{}, errors.New("the disk is full")
	r.keeper.Accepted = func(_ context.Context, why string) error {
		if slices.Contains(r.events(), chain.BreakAccepted) {
			t.Error("the chain has the break already")
		}
		told = append(told, why)
		return full
	}
	r.now = r.now.Add(time.Hour)
	if err := r.keeper.CatchUp(t.Context()); !errors.Is(err, full) || slices.Contains(r.events(), chain.BreakAccepted) {
		t.Errorf("the consents cannot be ended: %v, and the chain has %q", err, r.events())
	}
	full = nil
	r.now = r.now.Add(time.Hour)
	if err := r.keeper.CatchUp(t.Context()); err != nil || !slices.Contains(r.events(), chain.BreakAccepted) {
		t.Errorf("the consents have ended: %v, and the chain has %q", err, r.events())
	}
	for _, why := range told {
		if !strings.Contains(why, id) || !strings.Contains(why, "restored the backup of Sunday") {
			t.Errorf("it says %q", why)
		}
	}
	if len(told) != 2 {
		t.Errorf("told %d times", len(told))
	}
}
