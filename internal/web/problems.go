package web

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	// ofAKind is how many problems of one kind the page shows in full, and moreOfAKind how many others it has folded.
	ofAKind     = 3
	moreOfAKind = 100
)

// problemGroup is the problems of one severity and runbook.
type problemGroup struct {
	Shown, More []problemView
	MoreWords   string
	Left        int // that are not even folded
}

type problemView struct {
	Severity status.Severity
	Text     string
	Detail   string
	Remedy   string
	Runbook  string // anchor
	Key      string
}

// holdWords says in one clause why a key is on hold.
var holdWords = map[key.HoldCode]string{
	key.HoldPaused:          "is paused by an operator",
	key.HoldForeign:         "is on hold: the newest version in a vault is not keyd's",
	key.HoldNameTaken:       "is on hold: its name in a vault already holds versions that keyd never made",
	key.HoldVersionsMissing: "is on hold: a vault no longer shows a version that keyd imported",
	key.HoldKeyDeleted:      "is on hold: the key was deleted in a vault",
	key.HoldRefuted:         "is on hold: a vault holds other material than the HSM",
	key.HoldRecordBehind:    "is on hold: the HSM or a vault shows more than keyd's record knows",
	key.HoldUnreserved:      "is on hold: the HSM has a pair of it that nobody reserved",
	key.HoldObjectMissing:   "is on hold: the HSM does not show one of its key pairs",
	key.HoldAdopted:         "is on hold: its record was rebuilt, and a person must review it",
}

// groupProblems groups similar problems, so that a vault that is down does not hide
// other problems behind one for each of its keys.
func groupProblems(s status.Snapshot) []problemGroup {
	type kind struct {
		severity status.Severity
		runbook  string
	}
	var order []kind
	all := map[kind][]problemView{}
	for _, p := range s.Problems {
		k := kind{p.Severity, p.Runbook}
		if all[k] == nil {
			order = append(order, k)
		}
		all[k] = append(all[k], viewProblem(p))
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

func viewProblem(p status.Problem) problemView {
	hold := p.Hold
	text := p.Text
	if p.Key == "" { // otherwise it begins with the key's name
		text = sentence(text)
	}
	v := problemView{Severity: p.Severity, Text: text, Remedy: p.Remedy, Runbook: p.Runbook, Key: p.Key}
	if hold != nil {
		v.Text = p.Key + " " + holdText(hold.Code)
		v.Detail = holdReason(hold) + " Since " + hold.Since.UTC().Format("2 Jan 2006 15:04") + "."
		if v.Remedy == "" {
			v.Remedy = holdRemedy(p.Key, hold.Code)
		}
	}
	return v
}

func holdText(code key.HoldCode) string {
	if words, ok := holdWords[code]; ok {
		return words
	}
	return "is on hold (" + string(code) + ")"
}

// holdReason is keyd's own description of a hold. An operator's text may contain
// anything, so the page shows only who wrote it.
func holdReason(hold *key.Hold) string {
	if hold.Code == key.HoldPaused {
		return "By " + hold.By + "."
	}
	reason := sentence(hold.Reason)
	if reason != "" && !slices.Contains([]byte(".!?…"), reason[len(reason)-1]) {
		reason += "."
	}
	return reason
}

func holdRemedy(name string, code key.HoldCode) string {
	if code == key.HoldPaused {
		return fmt.Sprintf("keyd status %s shows the reason; keyd resume %s --reason … resumes it", name, name)
	}
	return "follow the runbook before you change anything in the vault or the HSM"
}

// verdict returns the overall state in one sentence.
func verdict(s status.Snapshot) (severity status.Severity, words string) {
	critical := 0
	for _, p := range s.Problems {
		if p.Severity == status.Critical {
			critical++
		}
	}
	rest := len(s.Problems) - critical
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
