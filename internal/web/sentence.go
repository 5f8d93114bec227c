package web

import (
	"regexp"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// ofVersion is how a problem of one version begins.
var ofVersion = regexp.MustCompile(`^(\S+): version \S+ \(generation \d+\) in vault (\S+) (.*)`)

// moment is a time in a problem's text, in RFC 3339.
var moment = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// versionSentence says in one sentence what is wrong with one version of a key in a vault. ok is false if the problem
// is not about a single version.
func versionSentence(p status.Problem) (text string, ok bool) {
	m := ofVersion.FindStringSubmatch(p.Text)
	if m == nil || p.Hold != nil {
		return "", false
	}
	key, vault, what := m[1], m[2], m[3]
	switch {
	case p.Runbook == "keydunwrapfailing" && strings.Contains(what, ": refuted at "):
		return vault + " holds other material of " + key + " than the HSM", true
	case p.Runbook == "keydunwrapfailing":
		return key + " cannot be unwrapped in " + vault, true
	case p.Runbook == "keydwrapfailing":
		return key + " can be unwrapped in " + vault + ", but not wrapped or signed with", true
	case p.Runbook == "keydproofstale":
		return key + " was not proven in time in " + vault, true
	}
	what, _, _ = strings.Cut(what, ": ")
	return key + " in " + vault + " " + what, true
}

// clauses is what is wrong, and the reason, which follows a colon.
func clauses(now time.Time, p status.Problem) (what, reason string) {
	text, subject := local(now, sentenceOf(p)), ""
	for _, prefix := range []string{"key " + p.Key + ": ", p.Key + ": "} {
		if rest, ok := strings.CutPrefix(text, prefix); ok && p.Key != "" {
			text, subject = rest, p.Key+": "
			break
		}
	}
	what, reason, _ = strings.Cut(text, ": ")
	return subject + what, reason
}

// sentenceOf is the problem's text with a capital letter, unless it begins with the name of a key.
func sentenceOf(p status.Problem) string {
	if p.Key != "" {
		return p.Text
	}
	return sentence(p.Text)
}

// local shows the times in a text as the page shows times.
func local(now time.Time, text string) string {
	return moment.ReplaceAllStringFunc(text, func(s string) string {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return s
		}
		return stamp(now, t)
	})
}
