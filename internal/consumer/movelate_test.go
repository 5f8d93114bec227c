package consumer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// lateAt is the context of an effect whose process stands still for an hour before the clocks are read the nth time.
func lateAt(ctx context.Context, n int) context.Context {
	now, asked := term.Instant{Wall: time.Now(), Boot: time.Hour}, 0
	return term.WithEffect(ctx, term.Effect{What: "the move", Saved: now, Deadline: now.Add(time.Minute),
		Clock: func() term.Instant {
			if asked++; asked == n {
				now = now.Add(time.Hour)
			}
			return now
		}})
}

// The clocks are read before the change is sent, before its first byte is written, and before its last one.
func TestNoConsumerMovesAfterTheDeadline(t *testing.T) {
	t.Parallel()
	e := newEmulated(t)
	old := e.rotate()
	id := emulatedScope + "Microsoft.CognitiveServices/accounts/ai-1"
	e.make("ai=ai-1,key=" + weu + "/keys/cmk/" + old)
	e.watcher.Look(t.Context(), cmk(id))
	move := consumer.Move{ID: id, Vault: weu, Key: "cmk", From: old, Version: e.rotate()}
	c := e.mover()
	for n := 1; n <= 3; n++ {
		err := c.Repoint(lateAt(t.Context(), n), move)
		wantErr(t, err, "the move: its deadline was over")
		if late := new(term.LateError); !errors.As(err, &late) || key.ClassOf(err) != key.Retry {
			t.Errorf("%s: %v", key.ClassOf(err), err)
		}
		if seen := e.watcher.Look(t.Context(), cmk(id)).Consumers[0]; seen.Uses != old {
			t.Errorf("it moved to %s", seen.Uses)
		}
	}
	if err := c.Repoint(lateAt(t.Context(), 4), move); err != nil {
		t.Errorf("in time: %v", err)
	}
}
