package trouble

import (
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/keyd-project/keyd/internal/status"
)

// rule is one alert of deploy/prometheus/keyd.rules.yml.
type rule struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func rules(t *testing.T) map[string]rule {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal([]byte(read(t, "../../deploy/prometheus/keyd.rules.yml")), &file); err != nil {
		t.Fatal(err)
	}
	found := map[string]rule{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = r
		}
	}
	if len(found) < 30 {
		t.Fatalf("only %d alerts", len(found))
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// alone reports whether no problem can show this alert.
func alone(alert string) bool {
	return slices.ContainsFunc(Alone(), func(r Row) bool { return r.Alert == alert })
}

// moreSevere lists the alerts whose problem is critical although the alert is not, so that a person sees it first,
// each with the reason.
var moreSevere = map[string]string{
	"KeydKeyOnHold": "most holds are for what may keep data from being read, which is what the section says",
}

// Otherwise the page could say that all is well while an alert fires.
func TestEachAlertBelongsToACause(t *testing.T) {
	byAlert := map[string][]Row{}
	for _, r := range Table() {
		byAlert[r.Alert] = append(byAlert[r.Alert], r)
	}
	all := rules(t)
	for alert, rule := range all {
		rows := byAlert[alert]
		if (len(rows) == 0) != alone(alert) {
			t.Errorf("%s has %d causes, and Alone has it: %v", alert, len(rows), alone(alert))
		}
		severity := status.Severity(rule.Labels["severity"])
		worst := slices.ContainsFunc(rows, func(r Row) bool { return r.Severity == severity })
		for _, r := range rows {
			if r.Severity < severity && moreSevere[alert] == "" { // critical sorts before warning
				t.Errorf("%s is %s, and its cause %s is %s", alert, severity, r.Cause, r.Severity)
			}
		}
		if len(rows) > 0 && !worst {
			t.Errorf("%s is %s, and none of its causes is", alert, severity)
		}
	}
	for alert := range byAlert {
		if _, ok := all[alert]; !ok {
			t.Errorf("the table names the alert %s, and there is none", alert)
		}
	}
}

// stated returns the numbers that a rule compares with: those in its expression, with products computed, and the time
// that it waits, in seconds.
func stated(t *testing.T, r rule) []float64 {
	t.Helper()
	var found []float64
	number := `(\d+(?:\.\d+)?)`
	for _, m := range regexp.MustCompile(`[<>]=?\s*`+number+`(?:\s*\*\s*`+number+`)?`).FindAllStringSubmatch(r.Expr,
		-1) {
		n := parse(t, m[1])
		if m[2] != "" {
			n *= parse(t, m[2])
		}
		found = append(found, n)
	}
	for _, m := range regexp.MustCompile(`\+ `+number+`\)`).FindAllStringSubmatch(r.Expr, -1) {
		found = append(found, parse(t, m[1]))
	}
	if r.For != "" {
		wait, err := time.ParseDuration(strings.Replace(r.For, "1d", "24h", 1))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, wait.Seconds())
	}
	return found
}

func parse(t *testing.T, text string) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Otherwise the page shows no trouble while an alert fires, or the other way round.
func TestAnAlertHasTheThresholdsOfItsCauses(t *testing.T) {
	all := rules(t)
	checked := 0
	wanted := map[string][]float64{}
	for _, r := range Table() {
		for _, n := range []float64{r.Threshold.Seconds(), r.Limit} {
			if n == 0 {
				continue
			}
			checked++
			wanted[r.Alert] = append(wanted[r.Alert], n)
			if found := stated(t, all[r.Alert]); !slices.Contains(found, n) {
				t.Errorf("%s has the threshold %v, and %s states %v", r.Cause, n, r.Alert, found)
			}
		}
	}
	if checked < 12 {
		t.Errorf("only %d thresholds were compared", checked)
	}
	// Conversely, the table has every number that an expression compares with, except 0, 1 and counts of failures.
	for alert, rule := range all {
		rule.For = ""
		for _, n := range stated(t, rule) {
			small := n == math.Trunc(n) && n <= 3
			if !small && !alone(alert) && !slices.Contains(wanted[alert], n) {
				t.Errorf("%s compares with %v, and its causes have %v", alert, n, wanted[alert])
			}
		}
	}
}

func TestEveryCauseHasOneRow(t *testing.T) {
	rows := map[Cause]int{}
	for _, r := range Table() {
		if rows[r.Cause]++; rows[r.Cause] > 1 {
			t.Errorf("%s has two rows", r.Cause)
		}
		if r.Code == "" || r.Alert == "" || r.Severity == "" {
			t.Errorf("the row of %s lacks something: %+v", r.Cause, r)
		}
		if strings.HasPrefix(r.Code, "keyd") && r.Code != strings.ToLower(r.Alert) {
			t.Errorf("%s has the code %s, and %s links to another", r.Cause, r.Code, r.Alert)
		}
	}
	for _, c := range []struct{ file, form, prefix string }{
		{"table.go", `(?m)^\t\w+ +Cause = "([a-z-]+)"`, ""},
		{"../key/lifecycle.go", `Hold\w+\s+HoldCode\s+=\s+"([a-z-]+)"`, "hold-"},
		{"../plan/drift.go", `Drift\w+\s+DriftKind\s+=\s+"([a-z-]+)"`, "drift-"},
	} {
		found := regexp.MustCompile(c.form).FindAllStringSubmatch(read(t, c.file), -1)
		if len(found) < 7 {
			t.Errorf("%s names only %d", c.file, len(found))
		}
		for _, m := range found {
			cause := Cause(c.prefix + m[1])
			if rows[cause] == 0 {
				t.Errorf("%s names %s, and the table has no row %s", c.file, m[1], cause)
			}
			delete(rows, cause)
		}
	}
	for _, cause := range slices.Sorted(maps.Keys(rows)) {
		t.Errorf("the table has a row %s that nothing names", cause)
	}
}

func TestEveryCauseHasARunbook(t *testing.T) {
	page := read(t, "../../docs/runbooks.md")
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		headings[strings.ReplaceAll(text, " ", "-")] = true
	}
	known := map[string]bool{"runbooks": true, "alerts": true, "holds": true, "drift": true,
		"a-service-cannot-read-any-more": true} // a person says so
	for _, r := range append(Table(), Alone()...) {
		known[r.Code], known[strings.ToLower(r.Alert)] = true, true
		for _, anchor := range []string{r.Code, strings.ToLower(r.Alert)} {
			if !headings[anchor] {
				t.Errorf("%s %s has no section #%s in docs/runbooks.md", r.Cause, r.Alert, anchor)
			}
		}
	}
	for heading := range headings {
		if !known[heading] {
			t.Errorf("docs/runbooks.md has a section #%s, and the table has no such code and no such alert", heading)
		}
	}
}

// The code treats all holds alike, and all drifts alike, so not every one needs an example.
func TestEveryRunbookOfAnAlertHasAnExample(t *testing.T) {
	found := map[string]bool{}
	for _, e := range examples() {
		w := allWell()
		e.trouble(w)
		for _, p := range w.problems() {
			found[p.Runbook] = true
		}
	}
	for _, r := range Table() {
		if strings.HasPrefix(r.Code, "keyd") && !found[r.Code] {
			t.Errorf("no example makes %s", r.Cause)
		}
	}
}

func TestTheMetricsReferenceNamesEachKindOfDrift(t *testing.T) {
	_, line, _ := strings.Cut(read(t, "../../docs/metrics.md"), "\n| `keyd_drift` ")
	line, _, _ = strings.Cut(line, "\n")
	_, list, _ := strings.Cut(line, "The kinds: ")
	list, _, _ = strings.Cut(list, ". See ")
	list = strings.ReplaceAll(list, "`vault`", "") // a label
	var named, want []string
	for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(list, -1) {
		named = append(named, m[1])
	}
	for _, r := range Table() {
		if kind, ok := strings.CutPrefix(string(r.Cause), "drift-"); ok {
			want = append(want, kind)
		}
	}
	slices.Sort(named)
	slices.Sort(want)
	if !slices.Equal(named, want) {
		t.Errorf("docs/metrics.md names %v, and keyd has %v", named, want)
	}
}
