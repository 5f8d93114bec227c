package prometheus_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	runbooks    = "../../docs/runbooks.md"
	runbookBase = "https://github.com/keyd-project/keyd/blob/main/docs/runbooks.md#"
)

func TestEveryRunbookExists(t *testing.T) {
	books := books(t)
	for _, a := range alerts(t) {
		anchor, ok := strings.CutPrefix(a.Annotations["runbook_url"], runbookBase)
		if !ok {
			t.Errorf("%s: runbook_url %q does not begin with %s", a.Alert, a.Annotations["runbook_url"], runbookBase)
		}
		for _, want := range append(expand(t, a, anchor), strings.ToLower(a.Alert)) {
			if books[want] == nil {
				t.Errorf("%s: docs/runbooks.md has no section #%s", a.Alert, want)
			}
		}
	}
	for prefix, names := range map[string][]string{"hold-": holdCodes(t), "drift-": driftKinds(t)} {
		for _, name := range names {
			if books[prefix+name] == nil {
				t.Errorf("docs/runbooks.md has no section #%s", prefix+name)
			}
		}
	}
}

// expand returns every anchor that a templated one can become.
func expand(t *testing.T, a alert, anchor string) (all []string) {
	t.Helper()
	for _, c := range []struct {
		template, metric, label string
		values                  []string
	}{
		{"{{ $labels.code }}", "keyd_key_held", "code", holdCodes(t)},
		{"{{ $labels.kind }}", "keyd_drift", "kind", driftKinds(t)},
	} {
		before, after, ok := strings.Cut(anchor, c.template)
		if !ok {
			continue
		}
		for _, v := range c.values {
			if selects(t, a.Expr, c.metric, c.label, v) {
				all = append(all, before+v+after)
			}
		}
		return all
	}
	return []string{anchor}
}

// The parts of a runbook, in this order, each at the beginning of a paragraph.
var parts = []string{"**Means", "**Look at**", "**Do**", "**Wake someone**"}

func TestEveryRunbookHasItsFourParts(t *testing.T) {
	for anchor, b := range books(t) {
		rest := "\n\n" + b.body
		for _, part := range parts {
			_, after, ok := strings.Cut(rest, "\n\n"+part)
			if !ok {
				t.Errorf("docs/runbooks.md#%s: no paragraph begins with %s, or not in this order: %s",
					anchor, part, strings.Join(parts, ", "))
				break
			}
			if next, _, _ := strings.Cut(after, "\n\n"); len(strings.Fields(next)) < 1 {
				t.Errorf("docs/runbooks.md#%s: %s is empty", anchor, part)
			}
			rest = after
		}
	}
}

func TestARunbookHasTheSeverityOfItsAlert(t *testing.T) {
	for _, a := range alerts(t) {
		b := books(t)[strings.ToLower(a.Alert)]
		if want := "**Means (" + a.Labels["severity"] + ").** "; b != nil && !strings.HasPrefix(b.body, want) {
			t.Errorf("docs/runbooks.md, %s: does not begin with %q", a.Alert, want)
		}
	}
}

// book is one section of the second level: about an alert, a hold or a kind of drift.
type book struct{ body string }

// books returns the runbooks by their anchors, as GitHub makes them from headings.
func books(t *testing.T) map[string]*book {
	t.Helper()
	found := map[string]*book{}
	for _, part := range regexp.MustCompile(`(?m)^#{1,2} `).Split(read(t, runbooks), -1) {
		heading, body, _ := strings.Cut(part, "\n")
		anchor := strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), ""),
			" ", "-")
		if anchor != "" && !slices.Contains([]string{"runbooks", "alerts", "holds", "drift"}, anchor) {
			found[anchor] = &book{strings.TrimSpace(body)}
		}
	}
	if len(found) < 30 {
		t.Fatalf("docs/runbooks.md has only %d sections", len(found))
	}
	return found
}
