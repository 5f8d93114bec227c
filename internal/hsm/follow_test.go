package hsm

import (
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// twoHosts are the HSM sides of two hosts on one token: one engine with the memory of either.
type twoHosts struct {
	*engine
	memory [2]*signedHeads
}

func newTwoHosts(t *testing.T) *twoHosts {
	e := newSigner(t)
	return &twoHosts{e, [2]*signedHeads{e.heads, newSignedHeads(t.TempDir())}}
}

func (h *twoHosts) on(n int) *engine {
	h.heads = h.memory[n]
	return h.engine
}

// page is the part of the chain from one entry to another, both included.
func (c shownChain) page(from, to uint64) chain.Extension {
	return chain.Extension{Stubs: c[from-1 : to], Seq: to, Head: c.head(to)}
}

// signedByBoth has host 0 sign entry 3, and host 1 entry 9 of a chain of 12 entries.
func signedByBoth(t *testing.T) (h *twoHosts, c shownChain, first, second *key.SignedCheckpoint) {
	t.Helper()
	h, c = newTwoHosts(t), entries(1, 12)
	first = signs(t, h.on(0), c[:3].after(nil))
	second = signs(t, h.on(1), c[:9].after(first))
	return h, c, first, second
}

func TestAfterAnotherHostSignedTheWayIsShownInPages(t *testing.T) {
	h, c, first, second := signedByBoth(t)
	e := h.on(0)
	if signed, missed, err := e.SignCheckpoint(t.Context(), c.after(second)); err != nil || !missed ||
		signed.Digest() != first.Digest() {
		t.Fatalf("signed %s, missed %v, %v: it must say from where it is to be shown the way", signed.Mark(), missed,
			err)
	}
	for _, page := range [][2]uint64{{4, 5}, {6, 9}} {
		if err := e.Follow(t.Context(), c.page(page[0], page[1])); err != nil {
			t.Fatal(err)
		}
	}
	third := signs(t, e, c.after(second))
	if third.Previous != second.Digest() {
		t.Errorf("it follows %s, want the one that the other host signed", third.Previous)
	}
	signs(t, e, c.and(1, 2).after(third)) // nothing more is to be shown
}

// The store colludes with the other host, whose audit key is the same one.
func TestInsiderAnotherHostCannotHaveAnotherPastSigned(t *testing.T) {
	h, c, first, second := signedByBoth(t)
	e := h.on(0)
	edited := append(entries(2, 3), c[3:]...)
	for name, page := range map[string]chain.Extension{
		"another chain":               edited.page(4, 9),
		"an entry changed":            append(c[:5:5], entries(2, 7)...).page(4, 9),
		"an entry left out":           {Stubs: c[4:9], Seq: 8, Head: c.head(9)},
		"a part that does not follow": c.page(6, 9),
	} {
		_ = e.Follow(t.Context(), page) // what leads somewhere may be followed
		if signed, missed, err := e.SignCheckpoint(t.Context(), c.after(second)); err == nil && !missed {
			t.Errorf("%s: signed %s", name, signed.Mark())
		}
	}
	forged := *second
	forged.Previous = first.Head
	if err := e.Follow(t.Context(), c.page(4, 9)); err != nil {
		t.Fatal(err)
	}
	_, _, err := e.SignCheckpoint(t.Context(), c.after(&forged))
	wantCode(t, err, ChainBroken, key.Refused)
	if err := e.Follow(t.Context(), c.page(10, 11)); err != nil { // past the other one's checkpoint
		t.Fatal(err)
	}
	if signed, missed, err := e.SignCheckpoint(t.Context(), c.after(second)); err == nil && !missed {
		t.Errorf("signed %s, and the way was shown elsewhere", signed.Mark())
	}
}

// The HSM side was restarted between two pages: it says where to begin, and calls nothing broken.
func TestAfterARestartTheWayIsShownAnew(t *testing.T) {
	h, c, _, second := signedByBoth(t)
	e := h.on(0)
	if err := e.Follow(t.Context(), c.page(4, 6)); err != nil {
		t.Fatal(err)
	}
	e.heads.shown = way{}
	wantCode(t, e.Follow(t.Context(), c.page(7, 9)), BadRequest, key.Retry)
	if err := e.Follow(t.Context(), c.page(4, 9)); err != nil {
		t.Fatal(err)
	}
	signs(t, e, c.after(second))
}

// Both hosts signed one head, because the record of the first signature was lost.
func TestTwoCheckpointsOfOneHeadNeedNoWay(t *testing.T) {
	h, c := newTwoHosts(t), entries(1, 12)
	first := signs(t, h.on(0), c[:3].after(nil))
	signs(t, h.on(0), c[:9].after(first))
	second := signs(t, h.on(1), c[:9].after(first))
	signs(t, h.on(0), c.after(second))
}

func TestAnHSMSideWithoutAMemoryFollowsNothing(t *testing.T) {
	e := newSigner(t)
	wantCode(t, e.Follow(t.Context(), entries(1, 3).page(1, 3)), BadRequest, key.Refused)
}
