package audit

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/bolt"
)

var testKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

// signer is an HSM side whose audit key is in Go.
type signer struct {
	key    *rsa.PrivateKey // nil: none yet
	next   *rsa.PrivateKey // the key that it makes next
	err    error           // returned by every call
	calls  []string
	signed []key.Checkpoint
	last   *key.SignedCheckpoint // nil: it remembers none
	shown  chain.Hash            // how far it has followed the chain from last
	clock  func() time.Time

	cannotMake bool
}

// public is the public half of a key.
func public(k *rsa.PrivateKey) key.Material {
	m, err := key.FromRSA(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return m
}

func (s *signer) AuditKey(context.Context) (key.Material, bool, error) {
	s.calls = append(s.calls, "AuditKey")
	if s.err != nil || s.key == nil {
		return key.Material{}, false, s.err
	}
	return public(s.key), true, nil
}

func (s *signer) MakeAuditKey(context.Context) (key.Material, error) {
	s.calls = append(s.calls, "MakeAuditKey")
	if s.err != nil {
		return key.Material{}, s.err
	}
	if s.cannotMake {
		return key.Material{}, errors.New("the token has no such mechanism")
	}
	s.key = s.next
	return public(s.key), nil
}

func (s *signer) SignCheckpoint(
	_ context.Context, x chain.Extension,
) (c key.SignedCheckpoint, missed bool, err error) {
	s.calls = append(s.calls, "SignCheckpoint")
	if s.err != nil {
		return c, false, s.err
	}
	base, last := chain.Hash{}, s.last
	switch {
	case last == nil:
		last = x.Since // it lost its memory
	case x.Since != nil && (x.Since.Head == last.Head || string(x.Since.Head) == s.shown.String()):
		last = x.Since // another host's HSM side signed since
	case x.Since == nil || x.Since.Digest() != last.Digest():
		return *last, true, nil
	}
	if last != nil {
		c.Previous = last.Digest()
		if err := base.UnmarshalText([]byte(last.Head)); err != nil {
			return c, false, err
		}
	}
	if from := x.Seq - uint64(len(x.Stubs)); !x.Leads(from, base) {
		return c, false, fmt.Errorf("the entries from %d do not lead to %d", from, x.Seq)
	}
	c.Seq, c.Head = x.Seq, key.Fingerprint(x.Head.String())
	return s.sign(c.Checkpoint), false, nil
}

// sign signs what it is given, and remembers it.
func (s *signer) sign(c key.Checkpoint) key.SignedCheckpoint {
	c.Instance, c.Time, c.Signer = "test", s.clock().UTC().Truncate(time.Second), public(s.key).Fingerprint()
	s.last = &key.SignedCheckpoint{Checkpoint: c}
	digest := sha256.Sum256(c.Message())
	var err error
	if s.last.Signature, err = rsa.SignPKCS1v15(nil, s.key, crypto.SHA256, digest[:]); err != nil {
		panic(err)
	}
	s.signed = append(s.signed, c)
	return *s.last
}

// rig is a real chain, and a Keeper on it whose clock the test moves.
type rig struct {
	t       testing.TB
	store   *bolt.Store
	signer  *signer
	now     time.Time
	keeper  *Keeper
	journal *bytes.Buffer
	hosts   *Hosts // nil: there is one
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, signer: &signer{next: testKeys()[0]}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		journal: &bytes.Buffer{}}
	r.signer.clock = r.clock
	var err error
	if r.store, err = bolt.Open(filepath.Join(t.TempDir(), "state"), r.clock, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	r.restart()
	return r
}

func (r *rig) clock() time.Time { return r.now }

// restart starts a new process on the same chain.
func (r *rig) restart() {
	r.keeper = NewKeeper(Config{
		Instance: "test", Chain: r.store, Signer: r.signer, Clock: r.clock,
		Logger: slog.New(slog.NewTextHandler(r.journal, nil)), Metrics: NewMetrics(prometheus.NewRegistry()),
		Hosts: r.hosts,
	})
}

func (r *rig) add(name string, event chain.Event, fields ...string) {
	r.t.Helper()
	e := chain.Entry{Key: name, Event: event, Actor: "keyd", Fields: map[string]string{}}
	for i := 0; i+1 < len(fields); i += 2 {
		e.Fields[fields[i]] = fields[i+1]
	}
	if err := r.store.Append(r.t.Context(), e); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) sign() key.Checkpoint {
	r.t.Helper()
	c, err := r.keeper.Checkpoint(r.t.Context(), keyd)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) catchUp(want int) {
	r.t.Helper()
	if err := r.keeper.CatchUp(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if n := len(r.signer.signed); n != want {
		r.t.Fatalf("%d checkpoints were signed at %v, not %d", n, r.now, want)
	}
}

func (r *rig) events() (events []chain.Event) {
	r.t.Helper()
	err := r.store.Audit(r.t.Context(), 0, func(c chain.Linked) error {
		events = append(events, c.Event)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return events
}

func (r *rig) wantEvents(want ...chain.Event) {
	r.t.Helper()
	if got := r.events(); !slices.Equal(got, want) {
		r.t.Errorf("the chain has %q, not %q", got, want)
	}
}

func TestACheckpointIsDueAfterARotationAndEveryDay(t *testing.T) {
	r := newRig(t)
	r.catchUp(0) // an empty chain has nothing to sign
	r.add("", "daemon started", "instance", "test")
	r.now = r.now.Add(Every - time.Second)
	r.catchUp(0)
	r.now = r.now.Add(time.Second)
	r.catchUp(1)
	r.catchUp(1)
	r.add("sa", "generation reserved")
	r.catchUp(1)
	r.add("sa", "rotation finished")
	r.catchUp(2)
	r.catchUp(2)
	r.add("sa", "key held")
	r.restart() // before keyd signed it
	r.catchUp(3)
	r.now = r.now.Add(Every)
	r.catchUp(4)
	if got := testutil.ToFloat64(r.keeper.Metrics.last); got != float64(r.now.Unix()) {
		t.Errorf("the metric says %v", got)
	}
	if last := r.keeper.Last(); !last.Equal(r.now) {
		t.Errorf("the last one was at %v", last)
	}
}

func TestTheAuditKeyIsRecordedBeforeAndAfterItIsMadeAndWhenItChanges(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.sign()
	r.wantEvents("daemon started", chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned)
	r.restart()
	r.sign()
	r.signer.key, r.signer.next = nil, testKeys()[1] // somebody wiped the token
	r.sign()
	r.wantEvents("daemon started", chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned,
		chain.CheckpointSigned, chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned)
	if !strings.Contains(r.journal.String(), "the audit key has changed") {
		t.Errorf("the journal does not tell of it:\n%s", r.journal)
	}
	r.signer.key = testKeys()[0] // somebody put another HSM in its place
	r.sign()
	if got := r.events(); got[8] != chain.AuditKeyFound {
		t.Errorf("%v", got)
	}
}

func TestAnInterruptedCreationOfTheAuditKeyIsRecorded(t *testing.T) {
	r := newRig(t)
	r.add("", chain.AuditKeyIntended)
	r.signer.key = testKeys()[0]
	r.sign()
	r.wantEvents(chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned)
	if strings.Contains(strings.Join(r.signer.calls, " "), "Make") {
		t.Errorf("it was made again: %v", r.signer.calls)
	}
}

func TestAKeyThatCannotBeMadeDoesNotFillTheChain(t *testing.T) {
	r := newRig(t)
	r.signer.cannotMake = true
	for range 5 {
		if _, err := r.keeper.Checkpoint(t.Context(), keyd); err == nil {
			t.Fatal("no error")
		}
		r.restart()
	}
	r.wantEvents(chain.AuditKeyIntended)
}

func TestACheckpointFromTheFutureDoesNotStopDailyCheckpoints(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.now = r.now.AddDate(1, 0, 0) // signed by a clock that was wrong
	r.catchUp(1)
	r.now = r.now.AddDate(-1, 0, 0)
	r.catchUp(2)
	r.catchUp(2)
}

// A call to the HSM side by somebody else may take minutes.
func TestAnImportDoesNotWaitForAnothersCheckpoint(t *testing.T) {
	r := newRig(t)
	r.add("sa", "rotation finished")
	before := r.keeper.Mark(t.Context())
	if err := r.keeper.take(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.keeper.give()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got := r.keeper.Mark(ctx); got != before {
		t.Errorf("the mark is %q, and the newest checkpoint is %q", got, before)
	}
}

// unreadable is a chain with a damaged entry.
type unreadable struct{ Chain }

func (unreadable) Audit(context.Context, uint64, func(chain.Linked) error) error {
	return errors.New("audit entry 7: the entry cannot be read")
}

func TestAnUnreadableChainIsReported(t *testing.T) {
	r := newRig(t)
	r.keeper.Chain = unreadable{r.store}
	if err := r.keeper.CatchUp(t.Context()); err == nil {
		t.Error("no error")
	}
	if n := testutil.ToFloat64(r.keeper.Metrics.failures); n != 1 ||
		!strings.Contains(r.journal.String(), "audit entry 7") {
		t.Errorf("%v failures are counted; the journal:\n%s", n, r.journal)
	}
}

func TestAFailureIsRetriedAfterAPauseAndDelaysNoImport(t *testing.T) {
	r := newRig(t)
	r.add("sa", "rotation finished")
	before := r.keeper.Mark(t.Context())
	r.add("sa", "rotation finished")
	r.signer.err = errors.New("the token is asleep")
	if err := r.keeper.CatchUp(t.Context()); err == nil {
		t.Fatal("no error")
	}
	calls := len(r.signer.calls)
	if got := r.keeper.Mark(t.Context()); got != before || got == "" {
		t.Errorf("an import's mark is %q, and the newest checkpoint is %q", got, before)
	}
	r.catchUp(1)
	if len(r.signer.calls) != calls {
		t.Error("it was tried again at once")
	}
	if n := testutil.ToFloat64(r.keeper.Metrics.failures); n != 1 ||
		!strings.Contains(r.journal.String(), "the token is asleep") {
		t.Errorf("%v failures are counted; the journal:\n%s", n, r.journal)
	}
	r.signer.err = nil
	r.now = r.now.Add(firstPause)
	r.catchUp(2)
}

func TestAMarkBelongsToACheckpointSignedNow(t *testing.T) {
	r := newRig(t)
	r.add("sa", "generation pinned")
	seq, head, err := key.ParseMark(r.keeper.Mark(t.Context()))
	if err != nil || len(r.signer.signed) != 1 || r.signer.signed[0].Seq != seq || r.signer.signed[0].Head != head {
		t.Errorf("%d:%s, %v; signed: %v", seq, head, err, r.signer.signed)
	}
	if mark := r.signer.signed[0].Mark(); len(mark) > 256 ||
		!strings.Contains(r.journal.String(), "CHECKPOINT="+mark) {
		t.Errorf("the journal has not the mark %s:\n%s", mark, r.journal)
	}
	none := NewKeeper(Config{Instance: "test", Chain: newRig(t).store, Signer: &signer{err: errors.New("none")},
		Clock:  r.clock,
		Logger: slog.New(slog.DiscardHandler), Metrics: NewMetrics(nil)})
	if mark := none.Mark(t.Context()); mark != "" {
		t.Errorf("without any checkpoint the mark is %q", mark)
	}
}

// story is a chain with two keys, checkpoints, and one entry after the last checkpoint.
func story(t testing.TB) *rig {
	t.Helper()
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	for i := range 3 {
		r.now = r.now.Add(time.Hour)
		r.add("sa", "generation reserved", "generation", fmt.Sprint(i+1), "reason", "=cmd|' /C calc'!A1 <b>")
		r.add("sql", "generation reserved", "generation", fmt.Sprint(i+1))
		r.sign()
	}
	r.add("sa", "rotation finished", "generation", "3")
	return r
}

func (r *rig) export(q Request) string {
	r.t.Helper()
	var b strings.Builder
	if q.Format == "" {
		q.Format = JSON
	}
	if err := Export(r.t.Context(), r.store, q, r.now, &b); err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}

func (r *rig) public() []key.Material { return []key.Material{public(r.signer.key)} }

func (r *rig) verify(file string, marks ...key.Checkpoint) Verdict {
	r.t.Helper()
	var given []Mark
	for _, c := range marks {
		given = append(given, Mark{Seq: c.Seq, Head: c.Head})
	}
	v, err := Verify(strings.NewReader(file), r.public(), Expect{Marks: given})
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func TestAnExportVerifiesAndTheVerdictStatesHowFar(t *testing.T) {
	r := story(t)
	last := r.signer.signed[2]
	v := r.verify(r.export(Request{}), last, r.signer.signed[0])
	if !v.OK() || v.First != 1 || v.Last != 13 || v.Shown != 13 || v.LeftOut != 0 || v.CompleteTo != 13 ||
		v.Instance != "test" {
		t.Errorf("%+v", v)
	}
	if v.SignedTo != last.Seq || v.SignedTo != 11 || !v.SignedAt.Equal(last.Time) || len(v.Keys) != 1 ||
		v.Keys[0].Checkpoints != 3 || len(v.Expected) != 2 {
		t.Errorf("%+v", v)
	}
}

func TestAnExportOfOneKeyProvesThatNoEntryIsMissing(t *testing.T) {
	r := story(t)
	file := r.export(Request{Key: "sql"})
	if strings.Contains(file, "rotation finished") || strings.Contains(file, "calc") {
		t.Errorf("another key's entry is shown:\n%s", file)
	}
	v := r.verify(file)
	if !v.OK() || v.LeftOut != 5 || v.CompleteTo != 13 || v.Key != "sql" {
		t.Errorf("%+v", v)
	}
	// A name in another case means the same key. The file spells it as the entries do.
	if v := r.verify(r.export(Request{Key: "SQL"})); !v.OK() || v.LeftOut != 5 || v.Key != "sql" {
		t.Errorf("%+v", v)
	}
	// The file claims to be about sa, and so leaves out what it should show.
	v = r.verify(strings.Replace(file, `"key":"sql"`, `"key":"sa"`, 1))
	if v.OK() || v.CompleteTo != 1 {
		t.Errorf("%+v", v)
	}
	var unknown *UnknownKeyError
	err := Export(t.Context(), r.store, Request{Key: "typo", Format: JSON}, r.now, &strings.Builder{})
	if !errors.As(err, &unknown) {
		t.Errorf("a key that is not there: %v", err)
	}
}

func TestAnExportOfAPeriodContinuesToTheCheckpointThatCoversIt(t *testing.T) {
	r := story(t)
	begin := time.Date(2026, 3, 1, 14, 0, 0, 0, time.UTC) // the second hour
	v := r.verify(r.export(Request{Since: begin, Until: begin.Add(time.Minute)}))
	if !v.OK() || v.First != 7 || v.CompleteTo != 9 || v.SignedTo != 11 || v.Last != 12 || v.LeftOut != 2 {
		t.Errorf("%+v", v)
	}
	v = r.verify(r.export(Request{Since: begin.Add(24 * time.Hour)}))
	if v.OK() || v.Last != 0 || !strings.Contains(strings.Join(v.Problems, "; "), "no entry of the file is signed") {
		t.Errorf("an empty export: %+v", v)
	}
}

// What happens to a file, and what Verify reports about it.
func TestEveryTamperingIsCaught(t *testing.T) {
	r := story(t)
	edit := func(n int, old, fresh string) func([]string) []string {
		return func(lines []string) []string {
			if !strings.Contains(lines[n], old) {
				t.Fatalf("line %d has no %s: %s", n+1, old, lines[n])
			}
			lines[n] = strings.Replace(lines[n], old, fresh, 1)
			return lines
		}
	}
	cut := func(from, to int) func([]string) []string {
		return func(lines []string) []string { return append(lines[:from:from], lines[to:]...) }
	}
	// flip changes one digit of a hash.
	flip := func(n int, field string) func([]string) []string {
		return func(lines []string) []string {
			before, after, ok := strings.Cut(lines[n], `"`+field+`":"sha256:`)
			if !ok {
				t.Fatalf("line %d has no %s: %s", n+1, field, lines[n])
			}
			digit := "0"
			if after[0] == '0' {
				digit = "1"
			}
			lines[n] = before + `"` + field + `":"sha256:` + digit + after[1:]
			return lines
		}
	}
	for name, c := range map[string]struct {
		of     Request
		tamper func([]string) []string
		want   string
	}{
		"the instance": {Request{}, edit(0, `"instance":"test"`, `"instance":"other"`),
			"is of instance test, and the file says other"},
		"where the file begins": {Request{}, edit(0, `"first":1`, `"first":2`), "is where entry 2 should be"},
		"what came before": {Request{}, edit(0, `"prev":"sha256:0`, `"prev":"sha256:1`),
			"claims to follow another one"},
		"what an entry says": {Request{}, edit(2, `"actor":"keyd"`, `"actor":"uid 0"`),
			"entry 2 does not follow"},
		"an entry's hash":   {Request{}, flip(2, "hash"), "entry 2 does not follow"},
		"an entry's number": {Request{}, edit(2, `"seq":2`, `"seq":3`), "is where entry 2 should be"},
		"a sum":             {Request{Key: "sql"}, flip(1, "sum"), "entry 1 does not follow"},
		"the key of an entry left out": {Request{Key: "sql"}, edit(2, `"key":"sa"`, `"key":"cosmos"`),
			"entry 2 does not follow"},
		"a signature": {Request{}, edit(6, `"signature":"`, `"signature":"AAAA`),
			"entry 6 does not follow"},
		"the end's count": {Request{}, edit(14, `"lines":13`, `"lines":12`),
			"was written with 12 entries"},
		"the end's sum":               {Request{}, flip(14, "sum"), "its checksum differs"},
		"an entry taken out":          {Request{}, cut(3, 4), "is where entry 3 should be"},
		"the first entries taken out": {Request{}, cut(1, 3), "is where entry 1 should be"},
		"a checkpoint taken out":      {Request{}, cut(6, 7), "is where entry 6 should be"},
		"the end cut off":             {Request{}, cut(13, 15), "cut short"},
		"half a line": {Request{}, func(l []string) []string { l[14] = l[14][:20]; return l },
			"is not a line of an export"},
		"two entries exchanged": {Request{}, func(l []string) []string { l[2], l[3] = l[3], l[2]; return l },
			"is where entry 2 should be"},
		"an entry twice": {Request{}, func(l []string) []string { l[3] = l[2] + l[3]; return l },
			"is where entry 3 should be"},
		"something behind the end": {Request{}, func(l []string) []string { return append(l, "{}\n") },
			"after the end"},
		"a blank before a value": {Request{}, edit(2, `"seq":2`, `"seq": 2`), "is not a line of an export"},
		"a name written twice": {Request{}, edit(2, `"seq":2`, `"seq":7,"seq":2`),
			"is not a line of an export"},
		"a name that is unknown": {Request{}, edit(2, `"seq":2`, `"x":1,"seq":2`), "is not a line of an export"},
		"all signatures taken out": {Request{}, func(l []string) []string {
			return cut(4, 14)(l)
		}, "no entry of the file is signed"},
	} {
		file := r.export(c.of)
		if v := r.verify(file); !v.OK() {
			t.Fatalf("%s: before it, %v", name, v.Problems)
		}
		v := r.verify(
			strings.Join(c.tamper(strings.SplitAfter(strings.TrimSuffix(file, "\n")+"\n", "\n")[:15:15]), ""),
		)
		if v.OK() || !strings.Contains(strings.Join(v.Problems, "\n"), c.want) {
			t.Errorf("%s: %q, and nothing says %q", name, v.Problems, c.want)
		}
	}
}

// rewrite makes another chain that is consistent in itself, as somebody can who may write the state but does not hold
// the audit key.
func (r *rig) rewrite(change func(n int, e *chain.Entry) (keep bool)) *rig {
	r.t.Helper()
	forged := newRig(r.t)
	forged.signer, forged.now = r.signer, r.now
	forged.restart()
	err := r.store.Audit(r.t.Context(), 0, func(c chain.Linked) error {
		e := c.Entry
		if !change(int(c.Seq), &e) {
			return nil
		}
		return forged.store.Append(r.t.Context(), e)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return forged
}

func TestSignaturesExposeAFullyRewrittenChain(t *testing.T) {
	r := story(t)
	forged := r.rewrite(func(n int, e *chain.Entry) bool {
		if n == 2 {
			e.Actor = "schedule"
		}
		return true
	})
	v := forged.verify(forged.export(Request{}))
	if v.OK() || !strings.Contains(v.Problems[0], "the chain was rewritten") {
		t.Errorf("%+v", v)
	}

	// Without the signatures it is consistent, and nobody signed it.
	forged = r.rewrite(func(n int, e *chain.Entry) bool { return e.Event != chain.CheckpointSigned })
	v = forged.verify(forged.export(Request{}))
	if v.OK() || !strings.Contains(v.Problems[0], "no entry of the file is signed") {
		t.Errorf("%+v", v)
	}

	// Signed again, with a key of the forger's own.
	forged = r.rewrite(func(n int, e *chain.Entry) bool { return e.Event != chain.CheckpointSigned })
	forged.signer = &signer{key: testKeys()[1], clock: r.clock}
	forged.restart()
	forged.sign()
	v, err := Verify(strings.NewReader(forged.export(Request{})), r.public(), Expect{})
	if err != nil || v.OK() || len(v.Keys) != 2 || v.Keys[1].Given || v.Keys[1].Checkpoints != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAMarkFromElsewhereExposesACutOffTail(t *testing.T) {
	r := story(t)
	last := r.signer.signed[2]
	for to, want := range map[int]string{
		9:  "the file ends with 9: its end was cut off",
		11: "has no checkpoint of entry 11 by a given key: its end was cut off",
	} {
		short := r.rewrite(func(n int, _ *chain.Entry) bool { return n <= to })
		file := short.export(Request{})
		if v := short.verify(file); !v.OK() {
			t.Fatalf("cut to %d: without the mark it cannot show: %v", to, v.Problems)
		}
		if v := short.verify(file, last); v.OK() || !strings.Contains(v.Problems[0], want) {
			t.Errorf("cut to %d: %q", to, v.Problems)
		}
	}
	wrong := last
	wrong.Head = r.signer.signed[0].Head
	if v := r.verify(r.export(Request{}), wrong); v.OK() ||
		!strings.Contains(v.Problems[0], "has another hash here") {
		t.Errorf("%q", v.Problems)
	}
	if v := r.verify(r.export(Request{Since: r.now}), r.signer.signed[0]); v.OK() ||
		!strings.Contains(v.Problems[0], "export from an earlier time") {
		t.Errorf("%q", v.Problems)
	}
}

func TestTheVerdictListsTheSignaturesOfEachAuditKey(t *testing.T) {
	r := story(t)
	r.signer.key, r.signer.next = nil, testKeys()[1]
	r.sign()
	file := r.export(Request{})
	v, err := Verify(strings.NewReader(file), []key.Material{public(testKeys()[0])}, Expect{})
	if err != nil || !v.OK() || v.SignedTo != 11 || len(v.Keys) != 2 || v.Keys[1].Given {
		t.Errorf("by the old key: %+v, %v", v, err)
	}
	v, err = Verify(strings.NewReader(file), []key.Material{public(testKeys()[0]), public(testKeys()[1])}, Expect{})
	if err != nil || !v.OK() || v.SignedTo != 15 || v.Keys[0].Checkpoints != 3 || v.Keys[1].Checkpoints != 1 {
		t.Errorf("by both: %+v, %v", v, err)
	}
}

func TestAFileThatIsNotAnExportIsRefusedByName(t *testing.T) {
	r := story(t)
	for file, want := range map[string]string{
		"":                             "the file is empty",
		"{}\n":                         "its first line is not that of",
		r.export(Request{Format: CSV}): "it is a CSV export, which is for reading; export the same with --format json",
		strings.Replace(r.export(Request{}), `"keyd_audit_export":1`, `"keyd_audit_export":2`, 1): "verify it with a " +
			"newer keyd",
	} {
		if _, err := Verify(strings.NewReader(file), r.public(), Expect{}); !errors.Is(err, ErrNotAnExport) ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", file, err)
		}
	}
}

func TestCSVHasAColumnForImportantFieldsAndNoFormula(t *testing.T) {
	r := story(t)
	got := strings.Split(r.export(Request{Format: CSV, Key: "sa"}), "\n")
	if got[0] != "seq,time,key,event,actor,generation,id,fingerprint,vault,version,kek,kek_fingerprint,reason,"+
		"other,hash" {
		t.Errorf("the head is %s", got[0])
	}
	want := `2,2026-03-01T13:00:00Z,sa,generation reserved,keyd,1,,,,,,,'=cmd|' /C calc'!A1 <b>,,sha256:`
	if !strings.HasPrefix(got[1], want) {
		t.Errorf("the first line is %s", got[1])
	}
	for _, cell := range []string{"=1", "+1", "-1", "@x", " =1", "\tx", "\r=1", "\n=1", "＝1"} {
		if harmless(cell) != "'"+cell {
			t.Errorf("%q stays a formula", cell)
		}
	}
	for _, cell := range []string{"", " ", "a=b", "sha256:ab", "'=1"} {
		if harmless(cell) != cell {
			t.Errorf("%q is changed", cell)
		}
	}
}

func TestPublicKeysAreReadBack(t *testing.T) {
	text := EncodeKey(public(testKeys()[0]))
	if keys, err := ParseKeys(append(text, text...)); err != nil || len(keys) != 2 ||
		keys[1] != public(testKeys()[0]) {
		t.Errorf("%v, %v", keys, err)
	}
	for _, bad := range []string{"", "no PEM", string(text) + "rest",
		"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
		"-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n"} {
		if _, err := ParseKeys([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

func TestACheckpointOfALaterEntryShowsThatEntriesWereRemoved(t *testing.T) {
	r := story(t)
	forged := r.rewrite(func(n int, _ *chain.Entry) bool { return n == 1 || n > 5 })
	v := forged.verify(forged.export(Request{}))
	if v.OK() || !strings.Contains(v.Problems[0], "entry 2 signs entry 5, which did not exist yet") {
		t.Errorf("%q", v.Problems)
	}
}
