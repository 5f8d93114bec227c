package hsm

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// effects are the calls that carry a deadline: what they do must not happen once somebody else may count on it that it
// did not. Nothing that the others do harms anybody when it comes late.
var effects = []string{"Generate", "WrapFor", "Destroy", "MakeAuditKey"}

// due is the frame of a request that is about to be written, with the time that it has left. It fails if the request is
// an effect whose deadline is over.
func (r request) due(ctx context.Context) ([]byte, error) {
	end, _ := ctx.Deadline()
	if slices.Contains(effects, r.Method) {
		if err := term.Check(ctx); err != nil {
			return nil, newError(Late, key.Retry, "HSM call %s was not sent: %w", r.Method, err)
		}
		r.Until = end.Round(0) // by the wall clock
		now := time.Now()      // before: if this process stands still meanwhile, the deadline only comes earlier
		if left, ok := term.Left(ctx); ok {
			r.Until = now.Add(left).Round(0)
		}
	}
	r.TimeoutMS = milliseconds(time.Until(end))
	frame, err := r.encode()
	if err != nil {
		return nil, refused(BadRequest, "encode HSM call %s: %w", r.Method, err)
	}
	return frame, nil
}

// withDeadline gives a call that has just arrived its deadline, if it is an effect. It waits for its turn here, and
// this process may stand still; so the engine checks it right before it calls the token.
func withDeadline(ctx context.Context, r request, limit time.Duration) (context.Context, error) {
	if !slices.Contains(effects, r.Method) {
		return ctx, nil
	}
	if r.Until.IsZero() {
		return ctx, refused(BadRequest, "HSM call %s has no deadline: are both sides of one version?", r.Method)
	}
	return term.WithEffect(ctx, term.Effect{What: "HSM call " + r.Method,
		Deadline: term.Instant{Wall: r.Until, Boot: term.Boottime() + limit}}), nil
}

// stillDue fails if the effect in ctx must not begin any more. It is asked right before the call of the token.
func stillDue(ctx context.Context) error {
	if err := term.Check(ctx); err != nil {
		return newError(Late, key.Retry, "nothing was changed: %w", err)
	}
	return nil
}
