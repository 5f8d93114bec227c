package grafana_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/keyd-project/keyd/deploy/grafana"
)

func dashboard(t *testing.T) (grafana.Dashboard, []grafana.Query) {
	t.Helper()
	d, err := grafana.Load()
	if err != nil {
		t.Fatal(err)
	}
	queries, err := d.Queries()
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) < 40 {
		t.Fatalf("only %d queries", len(queries))
	}
	return d, queries
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metrics returns the metrics, each with its labels: keyd's from the tables of docs/metrics.md, which another test
// compares with what the daemon registers, and those of Prometheus that the dashboard uses.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{
		"up":                            nil,
		"ALERTS":                        {"alertname", "alertstate", "severity"},
		"process_start_time_seconds":    nil,
		"process_resident_memory_bytes": nil,
	}
	row := regexp.MustCompile("(?m)^\\| `(keyd_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		labels := regexp.MustCompile(`[a-z]+`).FindAllString(m[3], -1)
		if m[2] != "histogram" {
			found[m[1]] = labels
			continue
		}
		found[m[1]+"_bucket"] = append(slices.Clone(labels), "le")
		found[m[1]+"_count"], found[m[1]+"_sum"] = labels, labels
	}
	if len(found) < 30 {
		t.Fatalf("docs/metrics.md lists only %d metrics", len(found))
	}
	return found
}

// Prometheus' own parser reads the queries as recording rules.
func TestPrometheusParsesEveryQuery(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	_, queries := dashboard(t)
	var rules []rule
	for i, q := range queries {
		rules = append(rules, rule{fmt.Sprintf("query:%d", i), grafana.Substitute(q.Expr, "1m")})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("SUCCESS: %d rules found", len(queries))) {
		t.Errorf("promtool check rules (apt-get install prometheus): %v\n%s", err, out)
	}
}

func TestEveryQueryUsesExistingMetricsAndLabels(t *testing.T) {
	known := metrics(t)
	_, queries := dashboard(t)
	for _, q := range queries {
		labels := []string{"job", "instance"}
		names := metricsIn(q.Expr)
		if len(names) == 0 {
			t.Errorf("%s asks for no metric: %s", q.Where, q.Expr)
		}
		for _, name := range names {
			own, ok := known[name]
			if !ok {
				t.Errorf("%s: keyd has no metric %s", q.Where, name)
			}
			labels = append(labels, own...)
		}
		for _, label := range labelsIn(q) {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: no metric in it has the label %s: %s, called %q", q.Where, label, q.Expr, q.Legend)
			}
		}
	}
}

// metricsIn lists the words before a brace or range, and keyd's metrics anywhere.
func metricsIn(expr string) (names []string) {
	for _, m := range regexp.MustCompile(`\b([A-Za-z_]+)[{\[]|\b(keyd_[a-z_]+)`).FindAllStringSubmatch(expr, -1) {
		names = append(names, m[1]+m[2])
	}
	return names
}

// labelsIn lists the labels that a query selects, groups by or uses in its legend.
func labelsIn(q grafana.Query) (labels []string) {
	for _, m := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(q.Expr, -1) {
		for _, s := range regexp.MustCompile(`([a-z]+)(?:=|!=|=~|!~)"`).FindAllStringSubmatch(m[1], -1) {
			labels = append(labels, s[1])
		}
	}
	grouped := false
	for _, m := range regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`).FindAllStringSubmatch(q.Expr, -1) {
		labels = append(labels, regexp.MustCompile(`[a-z]+`).FindAllString(m[1], -1)...)
		grouped = true
	}
	for _, m := range regexp.MustCompile(`\{\{([a-z]+)\}\}`).FindAllStringSubmatch(q.Legend, -1) {
		if grouped && !slices.Contains(labels, m[1]) {
			m[1] += " (which is not among those grouped by)"
		}
		labels = append(labels, m[1])
	}
	return labels
}

func TestEveryVariableInAQueryIsOneOfTheDashboard(t *testing.T) {
	d, queries := dashboard(t)
	known := []string{"$__rate_interval"}
	for _, v := range d.Templating.List {
		known = append(known, "$"+v.Name)
	}
	for _, want := range []string{"$datasource", "$instance", "$key", "$vault"} {
		if !slices.Contains(known, want) {
			t.Errorf("there is no variable %s", want)
		}
	}
	for _, q := range queries {
		for _, v := range regexp.MustCompile(`\$\w+`).FindAllString(q.Expr, -1) {
			if !slices.Contains(known, v) {
				t.Errorf("%s: there is no variable %s", q.Where, v)
			}
		}
	}
}

func TestEveryPanelSaysWhatItShows(t *testing.T) {
	d, _ := dashboard(t)
	ids := map[int]string{}
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice || p.ID == 0 {
			t.Errorf("%s and %s have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if p.Type == "row" {
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d, %q, lacks a title, a description, a unit or a query", p.ID, p.Title)
		}
		if p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: the datasource is %q, not the variable", p.Title, p.Datasource.UID)
		}
	}
	if d.UID != "keyd" || d.SchemaVersion < 39 {
		t.Errorf("uid %q, schema version %d", d.UID, d.SchemaVersion)
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	d, _ := dashboard(t)
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s does not fit: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

func TestLinksLeadToRunbooks(t *testing.T) {
	const base = "https://github.com/keyd-project/keyd/blob/main/docs/runbooks.md"
	anchors := map[string]bool{"": true}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(read(t, "../../docs/runbooks.md"), -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors["#"+strings.ReplaceAll(text, " ", "-")] = true
	}
	d, _ := dashboard(t)
	links := d.Links
	for _, p := range d.Panels {
		links = append(links, p.Links...)
	}
	if len(links) < 20 {
		t.Errorf("only %d links", len(links))
	}
	for _, l := range links {
		anchor, ok := strings.CutPrefix(l.URL, base)
		if !ok || !anchors[anchor] {
			t.Errorf("%q leads to %s, which is no section of the runbooks", l.Title, l.URL)
		}
	}
}
