package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"
)

// How keyd talks to its user, in one place:
//
//   - The requested result goes to standard output. Everything else (questions, notes,
//     errors) goes to standard error, so that the result can be piped.
//   - An error reads "keyd: what happened; what to do", and the exit code tells its kind.
//   - On a terminal there are colours, tables that fit its width, and a live view. Elsewhere
//     there are none of them: each line is whole, however long, and each event has a line.
//   - NO_COLOR, set and not empty (no-color.org), and TERM=dumb turn colours off.
//     CLICOLOR_FORCE, set and neither empty nor 0 (bixense.com/clicolors), turns them on where
//     there is no terminal; NO_COLOR is stronger. A dumb terminal has no live view either.
//   - Times are in words for a person, and exact (RFC 3339) with --json.
//   - Text that could move a cursor is cleaned before it is shown: see clean.
//   - If the reader goes away, as head does, a command ends by SIGPIPE without a message.
//     Any other failure to write the result is an error.

// style is how one stream shows text.
type style struct {
	colour bool
	width  int // columns to which tables are fitted; 0: no limit
}

func (a *app) style() style { return styleOf(a.out) }

func styleOf(f *os.File) style {
	s := style{colour: coloured(isTerminal(f), os.Getenv)}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = width
	}
	return s
}

func coloured(terminal bool, env func(string) string) bool {
	switch force := env("CLICOLOR_FORCE"); {
	case env("NO_COLOR") != "":
		return false
	case force != "" && force != "0":
		return true
	}
	return terminal && env("TERM") != "dumb"
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// canRedraw reports whether written lines can be overwritten.
func canRedraw(f *os.File) bool { return isTerminal(f) && os.Getenv("TERM") != "dumb" }

func (s style) paint(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) good(text string) string { return s.paint("32", text) }
func (s style) warn(text string) string { return s.paint("33", text) }
func (s style) bad(text string) string  { return s.paint("31", text) }
func (s style) bold(text string) string { return s.paint("1", text) }

// table returns an empty table for this stream.
func (s style) table() table { return table{width: s.width} }

// note says something besides the result.
func (a *app) note(format string, args ...any) {
	fmt.Fprintln(a.err, clean(fmt.Sprintf(format, args...)))
}

// complain says why a command failed. The lines after the first say what to do.
func (a *app) complain(err error) {
	fmt.Fprintln(a.err, styleOf(a.err).bad("keyd:")+" "+clean(text(err)))
}

// ask puts a question to the person at the terminal; only "yes" and "y" are consent.
func (a *app) ask(ctx context.Context, question string) (bool, error) {
	answer, err := a.askText(ctx, question+" [y/N]")
	answer = strings.ToLower(answer)
	return err == nil && (answer == "y" || answer == "yes"), err
}

// askText asks the person at the terminal for a line of text. Ctrl-C is an answer, too: askText then returns the
// context's error.
func (a *app) askText(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.err, question+" ")
	answered := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.in).ReadString('\n') // at the end of the input: whatever was typed, or nothing
		answered <- line
	}()
	select {
	case line := <-answered:
		return strings.TrimSpace(line), nil
	case <-ctx.Done():
		fmt.Fprintln(a.err)
		return "", cmp.Or(context.Cause(ctx), ctx.Err())
	}
}
