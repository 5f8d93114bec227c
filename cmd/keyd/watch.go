package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// watch shows a rotation until it ends, or until the person has seen enough.
func (a *app) watch(ctx context.Context, events <-chan status.Event, accepted []control.Accepted) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	v, stop := a.viewer(accepted, cancel)
	err := a.client().Follow(ctx, events, accepted, v)
	stop()
	if errors.As(err, new(*control.UnfinishedError)) {
		return detached(ctx, err)
	}
	return errors.Join(err, a.showRotated(ctx, accepted))
}

// detached says that the rotation goes on although this command ends.
func detached(ctx context.Context, err error) error {
	var unfinished *control.UnfinishedError
	if !errors.As(err, &unfinished) {
		return err
	}
	goesOn := fmt.Sprintf("the daemon goes on with %s: see %s", list(unfinished.Keys), seeHow(unfinished.Keys))
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("not finished in time; %s", goesOn)
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("detached; %s", goesOn)
	case cause != nil: // the output cannot be written
		return fmt.Errorf("%w; %s", cause, goesOn)
	}
	return fmt.Errorf("%w\nThe request is recorded: once the daemon can be asked again, it goes on with %s: see %s",
		unfinished.Err, list(unfinished.Keys), seeHow(unfinished.Keys))
}

// list names a few keys, or counts many.
func list(names []string) string {
	const few = 3
	if len(names) > few {
		return words.Count(len(names), "key")
	}
	return strings.Join(names, ", ")
}

// seeHow is the command that shows how far these keys are.
func seeHow(names []string) string {
	if len(names) == 1 {
		return "`keyd status " + names[0] + "`"
	}
	return "`keyd status`"
}

// viewer chooses how to show events: as JSON, live, or line by line. It calls failed when they can no longer be
// shown.
func (a *app) viewer(accepted []control.Accepted, failed context.CancelCauseFunc) (v control.Viewer, stop func()) {
	line := &eventLines{app: a, failed: failed}
	switch {
	case a.json:
		enc := json.NewEncoder(a.out)
		line.show = func(e status.Event) error { return enc.Encode(withLists(e)) }
	case canRedraw(a.out):
		l := newLive(a.out, accepted)
		return l, l.run()
	default:
		if err := a.show(accepted, func(w io.Writer, s style) { writeAccepted(w, s, accepted) }); err != nil {
			failed(err)
		}
		line.show = func(e status.Event) error {
			_, err := fmt.Fprintln(a.out, eventLine(e))
			return err
		}
	}
	return line, func() {}
}

// eventLines shows each event on a line of its own.
type eventLines struct {
	app    *app
	show   func(status.Event) error
	failed context.CancelCauseFunc
}

// Saw shows an event.
func (l *eventLines) Saw(e status.Event) {
	if err := l.show(e); err != nil {
		l.failed(err)
	}
}

// Away says, besides the events, why there are none.
func (l *eventLines) Away(away bool) { l.app.note("%s", awayText(away)) }

func awayText(away bool) string {
	if away {
		return "The daemon went away; waiting up to a minute for it. It goes on where it was."
	}
	return "The daemon is back."
}
