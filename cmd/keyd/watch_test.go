package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keyd-project/keyd/internal/control"
)

// Waiting for a daemon that does not come back takes longer than a script may run.
func TestWatchSaysWhatToDoIfTheDaemonStaysAway(t *testing.T) {
	gone := fmt.Errorf("%w: nobody serves /run/keyd/keyd.sock", control.ErrUnreachable)
	err := detached(t.Context(), &control.UnfinishedError{Keys: []string{"sa-cmk-key"}, Err: gone})
	want := "the keyd daemon cannot be reached: nobody serves /run/keyd/keyd.sock\n" +
		"The request is recorded: once the daemon can be asked again, it goes on with sa-cmk-key: see `keyd " +
		"status sa-cmk-key`"
	if err.Error() != want {
		t.Errorf("%v", err)
	}
	if code := exitCode(err); code != exitUnreachable {
		t.Errorf("exit code %d", code)
	}
}

func TestManyKeysAreCountedWhenDetached(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := detached(ctx, &control.UnfinishedError{Keys: []string{"a", "b", "c", "d"}, Err: ctx.Err()})
	if want := "detached; the daemon goes on with 4 keys: see `keyd status`"; err.Error() != want {
		t.Errorf("%v", err)
	}
	if code := exitCode(err); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
}

func TestAHoldIsNotDetached(t *testing.T) {
	held := &control.HeldError{Key: "a", Reason: "paused"}
	if err := detached(t.Context(), held); !errors.Is(err, held) {
		t.Errorf("%v", err)
	}
}
