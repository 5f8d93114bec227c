package rotate

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// instant is the moment by both clocks. Whoever is about to save an intent reads them before, and writes the wall time
// into the record: the effect's deadline counts from there.
func (r *Rotator) instant() term.Instant { return term.Instant{Boot: r.Boot(), Wall: r.now()} }

// effect carries out what an intent that was begun at that moment announces, within its time. Whatever sends it asks
// term.Check again at the moment of sending, because the process may stand still at any instruction.
func (r *Rotator) effect(ctx context.Context, what string, begun term.Instant, within time.Duration,
	do func(context.Context) error) error {
	return r.effectUntil(ctx, what, begun, begun.Add(within), do)
}

// effectUntil is effect with a deadline that the record has.
func (r *Rotator) effectUntil(ctx context.Context, what string, saved, deadline term.Instant,
	do func(context.Context) error) error {
	ctx = term.WithEffect(ctx, term.Effect{What: what, Saved: saved, Deadline: deadline, Clock: r.instant,
		Prove: r.Prove})
	if err := term.Check(ctx); err != nil {
		return &notBegun{err}
	}
	ctx, cancel := context.WithTimeout(ctx, -r.instant().Since(deadline))
	defer cancel()
	return do(ctx)
}

// notBegun is the error of an effect that certainly did not happen, whatever the reason.
type notBegun struct{ error }

// Class is Retry.
func (*notBegun) Class() key.Class { return key.Retry }

// Unwrap returns the reason.
func (e *notBegun) Unwrap() error { return e.error }
