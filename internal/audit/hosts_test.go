package audit

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
)

// Follow is shown a page of the chain, as the HSM side is.
func (s *signer) Follow(_ context.Context, x chain.Extension) error {
	s.calls = append(s.calls, "Follow")
	from := x.Seq - uint64(len(x.Stubs))
	if from == s.last.Seq {
		if err := s.shown.UnmarshalText([]byte(s.last.Head)); err != nil {
			return err
		}
	}
	if !x.Leads(from, s.shown) {
		return fmt.Errorf("the entries from %d do not lead to %d", from, x.Seq)
	}
	s.shown = x.Head
	return nil
}

// otherHost is a host with an HSM side of its own, on the same store and the same token.
func (r *rig) otherHost() *rig {
	other := *r
	other.signer = &signer{key: r.signer.key, clock: r.clock}
	other.restart()
	return &other
}

func TestHostsThatSignInTurnKeepOneLineOfCheckpoints(t *testing.T) {
	a := newRig(t)
	a.add("", "daemon started", "instance", "test")
	a.sign()
	b := a.otherHost()
	for range 2 {
		b.add("sa", "generation reserved")
		b.sign()
		a.add("sa", "generation reserved")
		a.sign()
	}
	if why := a.keeper.Broken() + b.keeper.Broken(); why != "" {
		t.Error(why)
	}
	if v := a.verify(a.export(Request{})); !v.OK() || v.Keys[0].Checkpoints != 5 {
		t.Errorf("%+v", v)
	}
	if n := len(a.signer.signed) + len(b.signer.signed); n != 5 {
		t.Errorf("%d checkpoints were signed, want 5", n)
	}
}

func TestALongWayIsShownInPages(t *testing.T) {
	a := newRig(t)
	a.add("", "daemon started", "instance", "test")
	a.sign()
	b := a.otherHost()
	many := make([]chain.Entry, 2*chain.MaxStubs+1)
	for i := range many {
		many[i] = chain.Entry{Event: "daemon started", Actor: "keyd"}
	}
	if err := b.store.Append(t.Context(), many...); err != nil {
		t.Fatal(err)
	}
	b.sign()
	a.signer.calls = nil
	a.sign()
	follows := slices.DeleteFunc(a.signer.calls, func(c string) bool { return c != "Follow" })
	if len(follows) != 3 {
		t.Errorf("the way was shown in %d pages, want 3", len(follows))
	}
	if v := a.verify(a.export(Request{})); !v.OK() {
		t.Errorf("%q", v.Problems)
	}
}

// A host signed, and ended before the chain had it; meanwhile another one signed. Nothing is to be recorded any more.
func TestALostSignatureStaysLostOnceAnotherHostHasSigned(t *testing.T) {
	a := newRig(t)
	a.add("", "daemon started", "instance", "test")
	a.sign()
	x, err := a.keeper.extension(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.signer.SignCheckpoint(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	b := a.otherHost()
	b.add("sa", "key held")
	b.sign()
	a.restart()
	a.sign()
	if why := a.keeper.Broken(); why != "" {
		t.Error(why)
	}
	if v := a.verify(a.export(Request{})); !v.OK() || v.Keys[0].Checkpoints != 3 {
		t.Errorf("%+v", v)
	}
}

// The store shows one host a chain from which an entry of its own was removed.
func TestAHostWhoseHeadIsGoneSaysSo(t *testing.T) {
	a := newRig(t)
	a.add("", "daemon started", "instance", "test")
	a.sign()
	other := newRig(t)
	other.signer.key = a.signer.key
	other.add("", "daemon started", "instance", "other")
	for range 6 {
		other.add("sa", "generation reserved")
	}
	other.sign()
	other.signer = a.signer
	other.restart()
	_, err := other.keeper.Checkpoint(t.Context(), keyd)
	if err == nil || other.keeper.Broken() == "" {
		t.Errorf("%v: the chain lacks what this host signed", err)
	}
}
