package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// grouped is troubled, with labels.
func grouped() status.Snapshot {
	s := troubled()
	for i, labels := range map[string][]string{"sa-cmk-key": {"prod", "eu"}, "sql-tde": {"prod", "sql"}} {
		for j := range s.Keys {
			if s.Keys[j].Name == i {
				s.Keys[j].Labels = labels
			}
		}
	}
	return s
}

// drawn is all that redraw writes for these drawings, one for each tick.
func drawn(t *testing.T, rows int, draw ...func(io.Writer) error) (string, error) {
	t.Helper()
	tick := make(chan time.Time, len(draw))
	for range draw {
		tick <- time.Time{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var out strings.Builder
	err := redraw(ctx, &out, tick, func(_ context.Context, w io.Writer) error {
		if n == len(draw) {
			cancel()
			return context.Canceled
		}
		n++
		return draw[n-1](w)
	}, func() int { return rows })
	return out.String(), err
}

func saying(text string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

func TestWatchingDrawsOverTheLastDrawing(t *testing.T) {
	got, err := drawn(t, 24, saying("one\ntwo\n"), saying("three\n"))
	if want := "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[J\x1b[Hthree\x1b[K\n\x1b[J"; got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWatchingCutsWhatDoesNotFit(t *testing.T) {
	got, err := drawn(t, 4, saying("1\n2\n3\n4\n5\n"))
	want := "\x1b[H1\x1b[K\n2\x1b[K\n… and 3 more lines: keyd status --problems shows less\x1b[K\n\x1b[J"
	if got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWatchingGoesOnWhileTheDaemonIsAway(t *testing.T) {
	got, err := drawn(t, 24, func(io.Writer) error { return control.ErrUnreachable }, saying("back\n"))
	if err != nil || !strings.Contains(got, "The daemon does not answer.") || !strings.Contains(got, "back") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWatchingEndsWithAnyOtherError(t *testing.T) {
	broken := errors.New("refused")
	if _, err := drawn(t, 24, func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}
