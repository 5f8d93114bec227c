//go:build alerts

package alertstest

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/deploy/grafana"
)

// whole removes from a query the parts that hide or replace series while nothing is wrong.
func whole(expr string) string {
	return strings.NewReplacer(" > 0", "", " == 0", "", " or vector(0)", "").Replace(expr)
}

// askDashboard runs every query of the dashboard, and notes which returned data. A query without series while all is
// well has some in one trouble or another.
func (w *world) askDashboard(t *testing.T) {
	t.Helper()
	d, err := grafana.Load()
	if err != nil {
		t.Fatal(err)
	}
	queries, err := d.Queries()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		expr := grafana.Substitute(q.Expr, "1m")
		if _, err := w.query(expr); err != nil {
			t.Errorf("%s: %v", q.Where, err)
		}
		found, err := w.query(whole(expr))
		if err != nil {
			t.Errorf("%s: %v", q.Where, err)
		}
		if lack := lacks(q, found); lack == "" {
			w.answered[q.Where] = ""
		} else if before, asked := w.answered[q.Where]; !asked || before != "" {
			w.answered[q.Where] = lack + ": " + whole(expr)
		}
	}
}

// lacks says what is missing in a query's answer: "" if it has data with the labels of
// its legend.
func lacks(q grafana.Query, found []sample) string {
	if len(found) == 0 {
		return "no data"
	}
	for _, m := range regexp.MustCompile(`\{\{([a-z]+)\}\}`).FindAllStringSubmatch(q.Legend, -1) {
		if !slices.ContainsFunc(found, func(s sample) bool { return s.Metric[m[1]] != "" }) {
			return "no series with the label " + m[1]
		}
	}
	return ""
}

// withoutData are the queries that have no data in any of these troubles, with the reason.
var withoutData = map[string]string{
	"Until the newest version expires A": "a version has this series in its last 30 days, and none is so near its end",
	"Behind the audit log A":             "no vault has a workspace",
	"On a version that is no good A":     "no consumer uses a version that is disabled, compromised or expires soon",
}

func dashboardQueries(t *testing.T, w *world) {
	w.askDashboard(t)
	for where, lack := range w.answered {
		if lack != "" && withoutData[where] == "" {
			t.Errorf("%s: %s", where, lack)
		}
	}
	if len(w.answered) < 45 {
		t.Errorf("only %d queries were asked", len(w.answered))
	}
	t.Logf("%d queries of the dashboard have data", len(w.answered))
}
