package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// ofAKind is how many problems of one kind the page shows in full, and moreOfAKind how many others it has folded.
	ofAKind     = 3
	moreOfAKind = 100
	// shortReason is the longest reason, in bytes, that a card shows. Longer ones are folded away.
	shortReason = 80
)

// problemGroup is the problems of one severity and runbook.
type problemGroup struct {
	Shown, More []problemView
	MoreWords   string
	Left        int // that are not even folded
}

// problemView is one problem as a card: a sentence first, and what else there is to say below it.
type problemView struct {
	Severity status.Severity
	Text     string   // the sentence
	Detail   string   // a short reason; of a hold, since when
	Effects  string   // what follows from it, counted
	Raw      []string // all that keyd said, folded away
	Remedy   remedy
	Runbook  string // anchor
	Key      string
}

// viewProblems returns a card for each problem, in their order. Versions of one key in one vault that have the same
// trouble share a card.
func viewProblems(s status.Snapshot) []problemView {
	type card struct {
		severity status.Severity
		text     string
	}
	var views []problemView
	of := map[card]int{} // the place in views
	for _, p := range s.Problems {
		v := viewProblem(s.At, p)
		text, ofVersion := versionSentence(p)
		if !ofVersion {
			views = append(views, v)
			continue
		}
		c := card{p.Severity, text}
		i, shared := of[c]
		if !shared {
			v.Text, v.Detail, v.Raw = text, "", []string{p.Text}
			of[c] = len(views)
			views = append(views, v)
			continue
		}
		views[i].Raw = append(views[i].Raw, p.Text)
		views[i].Text = text + ", " + words.Count(len(views[i].Raw), "version")
	}
	return views
}

func viewProblem(now time.Time, p status.Problem) problemView {
	v := problemView{
		Severity: p.Severity, Remedy: remedyOf(p.Remedy, p.Key, p.Vault), Runbook: p.Runbook, Key: p.Key,
		Effects: strings.Join(p.Effects, "; "),
	}
	if h := p.Hold; h != nil {
		v.Text, v.Detail, v.Raw = holdSentence(p.Key, p.Vault, h.Code), holdDetail(now, h), holdReason(h)
		if p.Remedy == "" {
			v.Remedy = remedyOf(holdRemedy(p.Key, h.Code), p.Key, p.Vault)
		}
		return v
	}
	var reason string
	v.Text, reason = clauses(now, p)
	switch {
	case len(reason) > shortReason:
		v.Raw = []string{p.Text}
	case reason != "":
		v.Detail = sentence(reason) + "."
	}
	return v
}

// groupProblems groups similar problems, so that a vault that is down does not hide other problems behind one for each
// of its keys.
func groupProblems(problems []problemView) []problemGroup {
	type kind struct {
		severity status.Severity
		runbook  string
	}
	var order []kind
	all := map[kind][]problemView{}
	for _, p := range problems {
		k := kind{p.Severity, p.Runbook}
		if all[k] == nil {
			order = append(order, k)
		}
		all[k] = append(all[k], p)
	}
	var groups []problemGroup
	for _, k := range order {
		g := problemGroup{Shown: all[k]}
		if len(g.Shown) > ofAKind+1 {
			g.Shown, g.More = g.Shown[:ofAKind], g.Shown[ofAKind:]
			g.MoreWords = fmt.Sprintf("%d more like this", len(g.More))
			g.Left = max(0, len(g.More)-moreOfAKind)
			g.More = g.More[:len(g.More)-g.Left]
		}
		groups = append(groups, g)
	}
	return groups
}

// verdict returns the overall state in one sentence.
func verdict(s status.Snapshot, problems []problemView) (severity status.Severity, words string) {
	critical := 0
	for _, p := range problems {
		if p.Severity == status.Critical {
			critical++
		}
	}
	rest := len(problems) - critical
	switch {
	case critical == 1 && rest == 0:
		return status.Critical, "One problem needs someone now"
	case critical > 0 && rest == 0:
		return status.Critical, fmt.Sprintf("%d problems need someone now", critical)
	case critical == 1:
		return status.Critical, fmt.Sprintf("One problem needs someone now, and %d more can wait", rest)
	case critical > 0:
		return status.Critical, fmt.Sprintf("%d problems need someone now, and %d more can wait", critical, rest)
	case rest == 1:
		return status.Warning, "One problem to look at; nothing is lost"
	case rest > 0:
		return status.Warning, fmt.Sprintf("%d problems to look at; nothing is lost", rest)
	case !s.Ready:
		return status.Warning, "keyd is looking at every vault for the first time"
	case s.Summary.Keys == 0:
		return "", "keyd runs; no key is configured yet"
	}
	return "", "All is well"
}

// sinceWords returns text such as "since 1 Nov 2026, 24 days ago".
func sinceWords(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "since " + day(now, t) + ", " + relative(now, t)
}
