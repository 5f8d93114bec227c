package storetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Leadership is what a store does for the daemon that acts, and for those that wait.
type Leadership interface {
	Lease(ctx context.Context) (stored.Lease, error)
	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	Release(ctx context.Context, e term.Epoch) error
	PutStatus(ctx context.Context, name string, blob []byte) error
	Status(ctx context.Context, name string) ([]byte, error)
	Statuses(ctx context.Context, prefix string) ([]string, error)
}

// begin has a host lead.
func begin(t *testing.T, b Backend, nonce byte) stored.Lease {
	t.Helper()
	return must[stored.Lease](t)(b.Take(t.Context(), "one", [16]byte{nonce}, time.Hour))
}

// wantLate requires that a write was refused because its term is over.
func wantLate(t *testing.T, what string, err error) {
	t.Helper()
	var late *stored.EpochError
	if !errors.As(err, &late) || !errors.Is(err, stored.ErrEpoch) || key.ClassOf(err) != key.Retry {
		t.Errorf("%s: %v, want it refused because of its epoch", what, err)
	}
}

func epochs(t *testing.T, o Opened) {
	first := begin(t, o, 1)
	under := term.With(t.Context(), first.Epoch)
	rec, err := o.Save(under, mustLoad(t, o, "k"), entry("in force"))
	if err != nil {
		t.Fatal(err)
	}
	before := linked(t, o)
	current := term.With(t.Context(), begin(t, o, 2).Epoch)
	for what, ctx := range map[string]context.Context{
		"the last term's": under, "no term's": term.With(t.Context(), term.Epoch{}),
	} {
		for name, write := range map[string]func() error{
			"save": func() error { _, err := o.Save(ctx, rec, entry("late")); return err },
			"save together": func() error {
				return o.SaveTogether(ctx, []record.Record{rec}, [][]chain.Entry{{entry("late")}})
			},
			"entry": func() error { return o.Append(ctx, entry("late")) },
			"vault": func() error { _, err := o.SaveVault(ctx, mustLoadVault(t, o), entry("late")); return err },
			"settings": func() error {
				s := must[record.Settings](t)(o.LoadSettings(t.Context()))
				return o.SaveSettings(ctx, s, []chain.Entry{entry("late")}, nil)
			},
			"ledger": func() error { return o.SaveLedger(ctx, "k", []byte("late")) },
			"status": func() error { return o.PutStatus(ctx, "k", []byte("late")) },
		} {
			wantLate(t, what+" "+name, write())
		}
	}
	if diff := cmp.Diff(before, linked(t, o)); diff != "" {
		t.Errorf("late writes changed the chain (-before +after):\n%s", diff)
	}
	wantLedger(t, o, "k", nil)
	if _, err := o.Save(current, rec, entry("in force again")); err != nil {
		t.Error(err)
	}
}

func anybody(t *testing.T, o Opened) {
	begin(t, o, 1)
	rec := mustLoad(t, o, "k")
	if _, err := o.Save(t.Context(), rec, entry(chain.RotationRequested)); err != nil {
		t.Fatal(err)
	}
	if err := o.Append(t.Context(), entry(chain.DaemonStarted)); err != nil {
		t.Fatal(err)
	}
	wantEvents(t, o, string(chain.RotationRequested), string(chain.DaemonStarted))
}

func terms(t *testing.T, o Opened) {
	if l, err := o.Lease(t.Context()); !l.Epoch.IsZero() || l.Left > 0 || err != nil {
		t.Errorf("before the first term: %+v, %v", l, err)
	}
	first := begin(t, o, 1)
	now := must[stored.Lease](t)(o.Lease(t.Context()))
	if now.Epoch != first.Epoch || now.Holder != "one" || now.Left <= 0 || !now.Since.Equal(first.Since) ||
		first.Epoch.Number == 0 || first.Epoch.Nonce != [16]byte{1} {
		t.Errorf("took %+v, and the lease is %+v", first, now)
	}
	if l, err := o.Renew(t.Context(), first.Epoch, time.Hour); l.Epoch != first.Epoch || l.Left <= 0 || err != nil {
		t.Errorf("renewed to %+v, %v", l, err)
	}
	for what, e := range foreign(first.Epoch) {
		_, err := o.Renew(t.Context(), e, time.Hour)
		wantLate(t, "the renewal of "+what, err)
		if err := o.Release(t.Context(), e); err != nil {
			t.Errorf("the release of %s: %v", what, err)
		}
	}
	if l := must[stored.Lease](t)(o.Lease(t.Context())); l.Epoch != first.Epoch || l.Left <= 0 {
		t.Errorf("others released it, and it is %+v", l)
	}
	if err := o.Release(t.Context(), first.Epoch); err != nil {
		t.Fatal(err)
	}
	if l := must[stored.Lease](t)(o.Lease(t.Context())); l.Epoch != first.Epoch || l.Left > 0 {
		t.Errorf("released, it is %+v", l)
	}
	_, err := o.Renew(t.Context(), first.Epoch, time.Hour)
	wantLate(t, "the renewal of a released lease", err)
	if second := begin(t, o, 2); second.Epoch.Number != first.Epoch.Number+1 {
		t.Errorf("epoch %s after %s", second.Epoch, first.Epoch)
	}
}

func nextTerm(t *testing.T, o Opened) {
	first := begin(t, o, 1)
	if err := o.Append(term.With(t.Context(), first.Epoch), entry("in force")); err != nil {
		t.Fatal(err)
	}
	again := o.Reopen(t)
	if l := must[stored.Lease](t)(again.Lease(t.Context())); l.Epoch != first.Epoch || l.Holder != "one" {
		t.Errorf("after a restart the last term is %+v, want %+v", l, first)
	}
	if second := begin(t, again, 1); second.Epoch.Number != first.Epoch.Number+1 {
		t.Errorf("epoch %s after %s", second.Epoch, first.Epoch)
	}
}

func statuses(t *testing.T, o Opened) {
	under := term.With(t.Context(), begin(t, o, 1).Epoch)
	for _, name := range []string{"host/b", "host/a", "proofs"} {
		if err := o.PutStatus(under, name, []byte("of "+name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := o.Status(t.Context(), "host/a"); string(got) != "of host/a" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	listed := func(want ...string) {
		t.Helper()
		names, err := o.Statuses(t.Context(), "host/")
		if diff := cmp.Diff(want, names); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	listed("host/a", "host/b")
	if err := o.PutStatus(t.Context(), "host/a", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Status(t.Context(), "host/a"); got != nil || err != nil {
		t.Errorf("removed, it is %q, %v", got, err)
	}
	listed("host/b")
	// What ten thousand keys show is larger than what an engine takes at once.
	large := make([]byte, 5*stored.MaxBlob+1)
	if _, err := rand.NewChaCha8([32]byte{}).Read(large); err != nil {
		t.Fatal(err)
	}
	for _, blob := range [][]byte{large, large[:3*stored.MaxBlob], {0}, {0, 0, 9, 1}, []byte("small"), large[1:]} {
		if err := o.PutStatus(under, "shown", blob); err != nil {
			t.Fatal(err)
		}
		if got, err := o.Status(t.Context(), "shown"); !bytes.Equal(got, blob) || err != nil {
			t.Errorf("of a status of %d bytes %d come back, %v", len(blob), len(got), err)
		}
	}
	wantEvents(t, o)
}
