package hsm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// shownChain is a chain as its stubs, from the first entry on.
type shownChain []chain.Stub

// entries is a chain of n entries; different seeds give different chains.
func entries(seed, n int) (c shownChain) {
	for i := range n {
		c = append(c, chain.Stub{Key: "sa-cmk-key", Sum: chain.BodySum(fmt.Append(nil, seed, i))})
	}
	return c
}

// and is the chain with n entries more.
func (c shownChain) and(seed, n int) shownChain {
	return append(c[:len(c):len(c)], entries(seed, n)...)
}

func (c shownChain) head(seq uint64) (h chain.Hash) {
	for i, s := range c[:seq] {
		h = chain.LinkHash(h, uint64(i)+1, s.Key, s.Sum)
	}
	return h
}

// after is the way from a checkpoint (nil: from the beginning) to the chain's head.
func (c shownChain) after(since *key.SignedCheckpoint) chain.Extension {
	n := uint64(len(c))
	x := chain.Extension{Since: since, Stubs: c, Seq: n, Head: c.head(n)}
	if since != nil {
		x.Stubs = c[min(since.Seq, n):]
	}
	return x
}

// signs requires that the head is signed.
func signs(t *testing.T, c calls, x chain.Extension) *key.SignedCheckpoint {
	t.Helper()
	signed, missed, err := c.SignCheckpoint(t.Context(), x)
	if err != nil || missed || signed.Seq != x.Seq || string(signed.Head) != x.Head.String() {
		t.Fatalf("signed %s, missed %v: %v", signed.Mark(), missed, err)
	}
	by, _, err := c.AuditKey(t.Context())
	if err != nil || !signed.Verify(by) {
		t.Fatalf("the signature does not verify: %v", err)
	}
	return &signed
}

// newSigner is an HSM side with an audit key.
func newSigner(t *testing.T) *engine {
	t.Helper()
	e := inProcess(t, func(m module) module { return m })
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

// forgetful is the HSM side after its state directory was lost.
func forgetful(t *testing.T, e *engine) *engine {
	t.Helper()
	if err := os.Remove(e.heads.path); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEachCheckpointNamesTheOneBefore(t *testing.T) {
	e := newSigner(t)
	c := entries(1, 3)
	first := signs(t, e, c.after(nil))
	second := signs(t, e, c.and(1, 4).after(first))
	if first.Previous != "" || second.Previous != first.Digest() || second.Signer != first.Signer {
		t.Errorf("%+v, then %+v", first, second)
	}
}

// The caller has the network side, or the daemon's file. It cannot have another past signed.
func TestInsiderNoOtherPastIsSigned(t *testing.T) {
	e := newSigner(t)
	c := entries(1, 5)
	first := signs(t, e, c.after(nil))
	longer := c.and(1, 3)
	last := signs(t, e, longer.after(first))
	edited := entries(2, 12)
	byAnother := *last
	byAnother.Previous = byAnother.Head
	skipping := longer.and(1, 4).after(last)
	skipping.Stubs = skipping.Stubs[1:]
	higher := longer.and(1, 4).after(last)
	higher.Seq++
	for name, attack := range map[string]chain.Extension{
		"another chain from the beginning":           edited.after(nil),
		"the same chain without its checkpoints":     longer.and(1, 4).after(nil),
		"another chain after an earlier checkpoint":  append(c[:5:5], edited[5:]...).after(first),
		"another chain after the last checkpoint":    edited.after(last),
		"after a checkpoint that nobody signed":      longer.and(1, 4).after(&byAnother),
		"an entry left out":                          skipping,
		"another number":                             higher,
		"no entry at all":                            longer.after(last),
		"an older head, after the chain was cut off": c.after(first),
	} {
		t.Run(name, func(t *testing.T) {
			signed, missed, err := e.SignCheckpoint(t.Context(), attack)
			if err == nil && !missed || missed && signed.Digest() != last.Digest() {
				t.Errorf("signed %s, missed %v: %v", signed.Mark(), missed, err)
			}
		})
	}
	signs(t, e, longer.and(1, 1).after(last)) // and the honest chain goes on
}

// Also a restarted HSM side remembers; what it hands out it has noted before.
func TestTheHeadSignedLastOutlivesTheProcess(t *testing.T) {
	r := newRig(t)
	if _, err := r.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := entries(1, 3)
	last, _, err := r.SignCheckpoint(t.Context(), c.after(nil))
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	r = start(t, r.tok, r.child)
	again, missed, err := r.SignCheckpoint(t.Context(), entries(2, 9).after(nil))
	if err != nil || !missed || again.Digest() != last.Digest() {
		t.Errorf("another chain: %s, missed %v, %v", again.Mark(), missed, err)
	}
}

func TestWhatCannotBeRememberedIsNotHandedOut(t *testing.T) {
	e := newSigner(t)
	e.heads.path = filepath.Join(t.TempDir(), "none", "signed-head.json")
	e.heads.accept = e.heads.path
	note := headNote{Begun: true}
	if _, err := note.next(entries(1, 3).after(nil), key.Material{}); err != nil {
		t.Fatal(err)
	}
	_, err := e.sign(t.Context(), func(m key.Material) (key.Checkpoint, error) {
		return note.next(entries(1, 3).after(nil), m)
	})
	if err == nil || !strings.Contains(err.Error(), "remember what was signed") {
		t.Errorf("%v", err)
	}
}

func TestWithoutAMemoryOnlyACheckpointByTheAuditKeyItselfIsABeginning(t *testing.T) {
	e := newSigner(t)
	c := entries(1, 3)
	first := signs(t, e, c.after(nil))
	longer := c.and(1, 2)
	forged := *first
	forged.Signature = append([]byte(nil), first.Signature...)
	forged.Signature[9] ^= 1
	forgetful(t, e)
	for name, x := range map[string]chain.Extension{
		"no checkpoint":                         longer.after(nil),
		"a checkpoint with another's signature": longer.after(&forged),
		"another chain after a real one":        entries(2, 5).after(first),
	} {
		_, _, err := e.SignCheckpoint(t.Context(), x)
		if !IsCode(err, ChainBroken) || key.ClassOf(err) != key.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := e.SignCheckpoint(t.Context(), longer.after(nil))
	if want := AcceptCommand(5, longer.head(5)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, without %q", err, want)
	}
	if second := signs(t, e, longer.after(first)); second.Previous != first.Digest() {
		t.Errorf("%+v", second)
	}
}

// A token that was exchanged gets another audit key, and the chain goes on without a break.
func TestAnotherAuditKeyContinuesTheChain(t *testing.T) {
	e := newSigner(t)
	c := entries(1, 3)
	first := signs(t, e, c.after(nil))
	kek, _ := newKEK(t, vaultURL)
	other := kek.Material // some other key
	note, err := e.heads.load()
	if err != nil {
		t.Fatal(err)
	}
	if next, err := note.next(c.and(1, 1).after(first), other); err != nil || next.Previous != first.Digest() {
		t.Errorf("%+v, %v", next, err)
	}
}

func TestOnlyAnOrderInTheStateDirectoryAcceptsABreak(t *testing.T) {
	e := newSigner(t)
	dir := filepath.Dir(e.heads.path)
	last := signs(t, e, entries(1, 8).after(nil))
	old := entries(2, 4)
	done, err := AcceptHead(dir, 4, key.Fingerprint(old.head(4).String()), "restored the backup of \"Sunday\"\n")
	if err != nil || done.Old != last.Mark() {
		t.Fatalf("%+v, %v", done, err)
	}
	broken, missed, err := e.SignCheckpoint(t.Context(), old.and(2, 2).after(nil))
	by, _, _ := e.AuditKey(t.Context())
	if err != nil || !missed || broken.Break == nil || !broken.Verify(by) || broken.Seq != 4 ||
		broken.Break.Seq != last.Seq || broken.Break.Head != last.Head || broken.Previous != last.Digest() ||
		broken.Time.IsZero() {
		t.Fatalf("%+v, %v, %v", broken, missed, err)
	}
	if again, missed, err := e.SignCheckpoint(t.Context(), old.and(2, 2).after(nil)); err != nil || !missed ||
		again.Digest() != broken.Digest() {
		t.Errorf("the order was carried out twice: %+v, %v", again, err)
	}
	signs(t, e, old.and(2, 2).after(&broken))
	if _, err := AcceptHead(dir, 4, last.Head, ""); err == nil {
		t.Error("a break without a reason")
	}
	if _, err := AcceptHead(dir, 6, key.Fingerprint(old.and(2, 2).head(6).String()), "again"); err == nil {
		t.Error("a break where none is")
	}
}

// A crash after the break was signed, and before its order was removed, makes no second one.
func TestACrashMakesNoSecondBreak(t *testing.T) {
	e := newSigner(t)
	signs(t, e, entries(1, 8).after(nil))
	old := entries(2, 4)
	order := func() {
		head := key.Fingerprint(old.head(4).String())
		if _, err := AcceptHead(filepath.Dir(e.heads.path), 4, head, "restored"); err != nil {
			t.Fatal(err)
		}
	}
	order()
	text, err := os.ReadFile(e.heads.accept)
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := e.SignCheckpoint(t.Context(), old.and(2, 1).after(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.heads.accept, text, 0o600); err != nil {
		t.Fatal(err)
	}
	second, _, err := e.SignCheckpoint(t.Context(), old.and(2, 1).after(nil))
	if err != nil || second.Digest() != first.Digest() {
		t.Errorf("%s, then %s, %v", first.BreakID(), second.BreakID(), err)
	}
}

func TestADamagedNoteOfTheHeadIsNotOverwritten(t *testing.T) {
	e := newSigner(t)
	last := signs(t, e, entries(1, 3).after(nil))
	for _, text := range []string{"", "{", `{"schema":2,"begun":true}`, `{"schema":1,"begun":true,"x":1}`,
		`{"schema":1,"begun":true,"last":{"instance":"","seq":1,"head":"","time":"2026-01-01T00:00:00Z",` +
			`"signature":""}}`} {
		if err := os.WriteFile(e.heads.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.SignCheckpoint(t.Context(), entries(1, 5).after(last)); err == nil ||
			!strings.Contains(err.Error(), "signed-head.json") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
