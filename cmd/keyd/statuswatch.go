package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/keyd-project/keyd/internal/control"
)

// watchEvery is how often status --watch asks the daemon again.
const watchEvery = 2 * time.Second

// watchStatus shows what draw writes again and again, until a person ends it. While the daemon is away it says so, and
// goes on.
func (a *app) watchStatus(ctx context.Context, draw func(context.Context, io.Writer) error) error {
	if a.json || !canRedraw(a.out) {
		return usagef("--watch draws on a terminal: elsewhere, ask for `keyd status --json` as often as needed")
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	return redraw(ctx, a.out, tick.C, draw, func() int { return rowsOfTerminal(a.out) })
}

// redraw writes over its last drawing at each tick. The first error other than that the daemon is away ends it.
func redraw(
	ctx context.Context, w io.Writer, tick <-chan time.Time, draw func(context.Context, io.Writer) error,
	rows func() int,
) error {
	for ctx.Err() == nil { // ^C is how a person ends it
		if err := drawOnce(ctx, w, draw, rows()); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick:
		}
	}
	return nil
}

func drawOnce(ctx context.Context, w io.Writer, draw func(context.Context, io.Writer) error, rows int) error {
	var b strings.Builder
	err := draw(ctx, &b)
	if errors.Is(err, control.ErrUnreachable) {
		b.Reset()
		fmt.Fprintf(&b, "The daemon does not answer. This goes on as soon as it does.\n%s\n", clean(err.Error()))
		err = nil
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, screenful(b.String(), rows))
	return err
}

// screenful is a text from the top of the screen on, with as many lines as there are rows.
func screenful(text string, rows int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if most := max(2, rows) - 1; len(lines) > most {
		more := len(lines) - most + 1
		lines = append(lines[:most-1], fmt.Sprintf("… and %d more lines: keyd status --problems shows less", more))
	}
	return "\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\n\x1b[J"
}

func rowsOfTerminal(f *os.File) int {
	if _, rows, err := term.GetSize(int(f.Fd())); err == nil && rows > 0 {
		return rows
	}
	return 24
}
