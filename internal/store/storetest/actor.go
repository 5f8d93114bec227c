package storetest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/term"
)

// Acting is a store that refuses a leader's event without an epoch, for the contract, whose events are not keyd's: what
// comes without an epoch, and is not anybody's, it does under the epoch in force.
func Acting(b Backend) Backend { return &acting{Backend: b} }

type acting struct {
	Backend
	begins sync.Mutex // a host begins one term at a time
}

// under is ctx with the epoch in force, if one of the events needs it.
func (a *acting) under(ctx context.Context, entries ...chain.Entry) (context.Context, error) {
	_, has := term.Of(ctx)
	if has || !slices.ContainsFunc(entries, func(e chain.Entry) bool { return !e.Event.Anybodys() }) {
		return ctx, nil
	}
	a.begins.Lock()
	defer a.begins.Unlock()
	l, err := a.Lease(ctx)
	if err == nil && l.Epoch.IsZero() {
		l, err = a.Take(ctx, "one", [16]byte{1}, time.Hour)
	}
	return term.With(ctx, l.Epoch), err
}

func (a *acting) Append(ctx context.Context, entries ...chain.Entry) error {
	ctx, err := a.under(ctx, entries...)
	if err != nil {
		return err
	}
	return a.Backend.Append(ctx, entries...)
}

func (a *acting) Save(ctx context.Context, rec record.Record, entries ...chain.Entry) (record.Record, error) {
	ctx, err := a.under(ctx, entries...)
	if err != nil {
		return rec, err
	}
	return a.Backend.Save(ctx, rec, entries...)
}

func (a *acting) SaveTogether(ctx context.Context, recs []record.Record, entries [][]chain.Entry) error {
	ctx, err := a.under(ctx, slices.Concat(entries...)...)
	if err != nil {
		return err
	}
	return a.Backend.SaveTogether(ctx, recs, entries)
}

func (a *acting) SaveVault(ctx context.Context, rec record.Vault, entries ...chain.Entry) (record.Vault, error) {
	ctx, err := a.under(ctx, entries...)
	if err != nil {
		return rec, err
	}
	return a.Backend.SaveVault(ctx, rec, entries...)
}

func (a *acting) SaveSettings(ctx context.Context, rec record.Settings, entries, others []chain.Entry) error {
	ctx, err := a.under(ctx, slices.Concat(entries, others)...)
	if err != nil {
		return err
	}
	return a.Backend.SaveSettings(ctx, rec, entries, others)
}
