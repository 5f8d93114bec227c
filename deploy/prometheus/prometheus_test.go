// Package prometheus_test checks the shipped alerts with promtool. Its rule:
// promtool decides, and a promtool that is missing is a failure.
package prometheus_test

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const (
	runbooks    = "../../docs/runbooks.md"
	runbookBase = "https://github.com/keyd-project/keyd/blob/main/docs/runbooks.md#"
)

type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	load(t, "keyd.rules.yml", &file)
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

func load(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestPromtoolAcceptsTheRules(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "keyd.rules.yml"}, {"test", "rules", "keyd.rules_test.yml"}} {
		out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestEachAlertIsSeenToFireAndNotToFire(t *testing.T) {
	var file struct {
		Tests []struct {
			Cases []struct {
				Alert string `yaml:"alertname"`
				Want  []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	load(t, "keyd.rules_test.yml", &file)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.Want) > 0 {
				fires[c.Alert] = true
			} else {
				silent[c.Alert] = true
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: tested to fire: %v, not to fire: %v", a.Alert, fires[a.Alert], silent[a.Alert])
		}
	}
}

func TestEachAlertSaysWhatAPersonNeeds(t *testing.T) {
	for _, a := range alerts(t) {
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		for _, name := range []string{"summary", "description", "runbook_url"} {
			if a.Annotations[name] == "" {
				t.Errorf("%s: no %s", a.Alert, name)
			}
		}
		text := a.Annotations["summary"] + a.Annotations["description"]
		for _, label := range labelsOf(a.Expr) {
			if !strings.Contains(text, "$labels."+label) {
				t.Errorf("%s: neither summary nor description names the %s", a.Alert, label)
			}
		}
	}
}

// labelsOf names those of the labels key and vault that an alert on expr has.
func labelsOf(expr string) []string {
	seen := map[string]bool{}
	for _, m := range metricsIn(expr) {
		for _, label := range contract()[m] {
			if label == "key" || label == "vault" {
				seen[label] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func metricsIn(expr string) []string {
	return regexp.MustCompile(`\bkeyd_[a-z_]+`).FindAllString(expr, -1)
}

func TestAlertsUseMetricsThatKeydHas(t *testing.T) {
	for _, a := range alerts(t) {
		for _, m := range metricsIn(a.Expr) {
			if _, ok := contract()[m]; !ok {
				t.Errorf("%s: keyd has no metric %s", a.Alert, m)
			}
		}
		for _, kind := range codesIn(a.Expr, "kind") {
			if !slices.Contains(driftKinds(t), kind) {
				t.Errorf("%s: there is no drift of kind %s", a.Alert, kind)
			}
		}
		for _, code := range codesIn(a.Expr, "code") {
			if !slices.Contains(holdCodes(t), code) {
				t.Errorf("%s: there is no hold code %s", a.Alert, code)
			}
		}
	}
}

func codesIn(expr, label string) []string {
	var out []string
	for _, m := range regexp.MustCompile(label+`[=!~]+"([^"]*)"`).FindAllStringSubmatch(expr, -1) {
		out = append(out, strings.Split(m[1], "|")...)
	}
	return out
}

// holdCodes reads the closed set where it is defined.
func holdCodes(t *testing.T) []string {
	t.Helper()
	return constants(t, "../../internal/key/record.go", `(?m)^\tHold\w+\s+HoldCode\s+=\s+"([a-z-]+)"`)
}

// driftKinds reads the closed set where it is defined.
func driftKinds(t *testing.T) []string {
	t.Helper()
	return constants(t, "../../internal/rotate/metrics.go", `(?m)^\tdrift\w+\s+=\s+"([a-z-]+)"`)
}

func constants(t *testing.T, path, form string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(read(t, path), -1) {
		out = append(out, m[1])
	}
	if len(out) < 7 {
		t.Fatalf("%s defines only %v", path, out)
	}
	return out
}

func TestEveryRunbookExists(t *testing.T) {
	anchors := anchorsOf(read(t, runbooks))
	for _, a := range alerts(t) {
		anchor, ok := strings.CutPrefix(a.Annotations["runbook_url"], runbookBase)
		if !ok {
			t.Errorf("%s: runbook_url %q does not begin with %s", a.Alert, a.Annotations["runbook_url"], runbookBase)
		}
		for _, want := range expand(t, anchor) {
			if !slices.Contains(anchors, want) {
				t.Errorf("%s: docs/runbooks.md has no section #%s", a.Alert, want)
			}
		}
	}
	for _, code := range holdCodes(t) {
		if !slices.Contains(anchors, "hold-"+code) {
			t.Errorf("docs/runbooks.md has no section #hold-%s", code)
		}
	}
}

// expand gives every anchor that a templated one can become.
func expand(t *testing.T, anchor string) []string {
	t.Helper()
	for template, all := range map[string][]string{
		"{{ $labels.code }}": holdCodes(t),
		"{{ $labels.kind }}": slices.DeleteFunc(driftKinds(t), func(kind string) bool {
			return slices.Contains([]string{"key-deleted", "newest-disabled", "foreign-version"}, kind)
		}),
	} {
		if before, after, ok := strings.Cut(anchor, template); ok {
			var out []string
			for _, v := range all {
				out = append(out, before+v+after)
			}
			return out
		}
	}
	return []string{anchor}
}

// anchorsOf lists a page's headings as GitHub makes anchors of them.
func anchorsOf(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(text, " ", "-"))
	}
	return out
}
