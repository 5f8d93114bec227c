package main

import (
	"context"
	"fmt"
	"io"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/words"
)

// secondOperator lists the changes of guarded settings that a new configuration makes and that need a second operator.
func (a *app) secondOperator(ctx context.Context, c *config.Config) (lines []string, err error) {
	s, err := a.client().Settings(ctx)
	if err != nil || !s.NeedsApproval {
		return nil, err
	}
	for _, change := range config.Guarded(s.InForce).Changes(c.Guarded()) {
		lines = append(lines, change.Lines()...)
	}
	return lines, nil
}

// writeSecondOperator says what waits for a second operator.
func writeSecondOperator(w io.Writer, s style, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(w, s.bold("What a second operator must approve"))
	for _, line := range lines {
		fmt.Fprintln(w, "  "+clean(line))
	}
	fmt.Fprintf(w, "  keyd reload makes one proposal of %s, for another person to approve. All else takes "+
		"effect at once.\n", words.Count(len(lines), "setting"))
}
