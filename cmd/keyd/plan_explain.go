package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// explain shows what each rule of the plan says about one key.
func (a *app) explain(ctx context.Context, name string, now time.Time) error {
	e, err := a.client().Explain(ctx, name)
	if err != nil {
		return err
	}
	return a.show(e, func(w io.Writer, s style) { writeExplanation(w, s, e, now) })
}

func writeExplanation(w io.Writer, s style, e status.Explanation, now time.Time) {
	t := s.table()
	t.title(s, "#", "RULE", "SAYS", "WHY")
	for i, r := range e.Rules {
		says, why := "nothing", ""
		switch {
		case !r.Asked:
			says = "not asked"
		case r.Step != nil:
			says, why = stepText(*r.Step), r.Step.Why
		}
		t.add(plain(strconv.Itoa(i+1), r.Rule, says, why)...)
	}
	if len(e.Rules) > 0 { // none while a step is under way
		t.write(w, "")
	}
	next := "Next: " + stepText(e.Next)
	if !e.Next.At.IsZero() {
		next += ", due " + when(now, e.Next.At)
	}
	fmt.Fprintln(w, clean(next+": "+e.Next.Why))
}

// stepText names a step, such as "import generation 3 in contoso-weu".
func stepText(p status.Planned) string {
	text := p.Step
	if p.Generation > 0 {
		text += fmt.Sprintf(" generation %d", p.Generation)
	}
	if p.Vault != "" {
		text += " in " + p.Vault
	}
	return text
}
