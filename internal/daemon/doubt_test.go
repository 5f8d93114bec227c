package daemon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// What ended a consent may be among what is lost.
func TestConsentsEndOnceAStoreThatLostChangesIsAccepted(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	rec, err := a.store.Load(under, "one")
	if err != nil {
		t.Fatal(err)
	}
	rec.Consent = &record.Consent{Rule: key.RetireRule{DisableAfter: time.Hour}, By: "uid 0 (root)"}
	if _, err := a.store.Save(under, rec, chain.Entry{Event: chain.RetireConsented, Actor: "root"}); err != nil {
		t.Fatal(err)
	}
	consents := func(want bool) {
		t.Helper()
		if err := a.doubt(under); err != nil {
			t.Fatal(err)
		}
		if rec, err = a.store.Load(under, "one"); err != nil || (rec.Consent != nil) != want {
			t.Errorf("a consent stands: %v, %v; want %v", rec.Consent != nil, err, want)
		}
	}
	consents(true)
	if err := b.shared.Accept(t.Context(), "root", "the old primary burnt"); err != nil {
		t.Fatal(err)
	}
	consents(false)
	if rec.Doubted.IsZero() {
		t.Error("the pause does not begin anew")
	}
	rec.Consent = &record.Consent{Rule: key.RetireRule{DisableAfter: time.Hour}, By: "uid 0 (root)"}
	if _, err := a.store.Save(under, rec, chain.Entry{Event: chain.RetireConsented, Actor: "root"}); err != nil {
		t.Fatal(err)
	}
	consents(true) // it is done once
}

// unread is a store whose ledgers cannot be read.
type unread struct{ Store }

var errUnread = errors.New("the store cannot be read")

func (unread) LoadLedger(context.Context, string) ([]byte, error) { return nil, errUnread }

func TestNothingIsDisabledBeforeKeydKnowsWhetherTheStoreLostChanges(t *testing.T) {
	a, _, _ := twoHosts(t)
	a.store = unread{a.store}
	if err := a.seal(t.Context()); !errors.Is(err, errUnread) {
		t.Errorf("%v, want %v", err, errUnread)
	}
}
