// Package prometheus_test checks the shipped alerts with promtool. Its rule: promtool decides, and a missing promtool
// is a failure.
package prometheus_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// cases are the files with cases in which each alert fires or does not fire.
var cases = []string{"keyd.rules_test.yml", "keyd.rules_days_test.yml"}

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
	promtool(t, "check", "rules", "keyd.rules.yml")
	promtool(t, append([]string{"test", "rules"}, perAlert(t)...)...)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// perAlert splits the cases: each test once for every alert in it, with only that alert's rule. It returns the files.
// promtool evaluates all rules at every minute of a test, and a test asks for one alert of thirty. No rule here reads
// another's result.
func perAlert(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content any) string {
		b, err := yaml.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type object = map[string]any
	var rules struct {
		Groups []object `yaml:"groups"`
	}
	load(t, "keyd.rules.yml", &rules)
	rule := map[string]string{} // the file of each alert
	for _, group := range rules.Groups {
		for _, r := range group["rules"].([]any) {
			name := r.(object)["alert"].(string)
			if rule[name] != "" {
				t.Errorf("two rules are named %s", name)
			}
			one := maps.Clone(group)
			one["rules"] = []any{r}
			rule[name] = write(name+".rules.yml", object{"groups": []any{one}})
		}
	}
	for i, path := range cases {
		var file object
		load(t, path, &file)
		tests := map[string][]any{}
		for _, test := range file["tests"].([]any) {
			asked := map[string][]any{}
			for _, c := range test.(object)["alert_rule_test"].([]any) {
				name := c.(object)["alertname"].(string)
				asked[name] = append(asked[name], c)
			}
			for name, some := range asked {
				one := maps.Clone(test.(object))
				one["alert_rule_test"] = some
				tests[name] = append(tests[name], one)
			}
		}
		for name, some := range tests {
			if rule[name] == "" {
				t.Errorf("%s: there is no alert %s", path, name)
				continue
			}
			one := maps.Clone(file)
			one["rule_files"], one["tests"] = []string{rule[name]}, some
			files = append(files, write(fmt.Sprintf("%s_%d_test.yml", name, i), one))
		}
	}
	return files
}

// Each failure here and in the other files says what to add for a new alert.
func TestEachAlertFiresInOneCaseAndNotInAnother(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, path := range cases {
		var file struct {
			Tests []struct {
				Cases []struct {
					Alert string `yaml:"alertname"`
					Want  []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			} `yaml:"tests"`
		}
		load(t, path, &file)
		for _, test := range file.Tests {
			for _, c := range test.Cases {
				if len(c.Want) > 0 {
					fires[c.Alert] = true
				} else {
					silent[c.Alert] = true
				}
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] {
			t.Errorf("keyd.rules_test.yml has no case in which %s fires: add one with its exp_labels and "+
				"exp_annotations", a.Alert)
		}
		if !silent[a.Alert] {
			t.Errorf("keyd.rules_test.yml has no case in which %s does not fire: add one with exp_alerts: []", a.Alert)
		}
	}
}

func TestEachAlertSaysWhatAPersonNeeds(t *testing.T) {
	for _, a := range alerts(t) {
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q; write critical or warning", a.Alert, s)
		}
		for _, name := range []string{"summary", "description", "runbook_url"} {
			if a.Annotations[name] == "" {
				t.Errorf("%s: no %s", a.Alert, name)
			}
		}
		for _, label := range []string{"key", "vault"} {
			if a.Alert == "KeydKeyPaused" && label == "vault" {
				continue // a pause concerns the whole key
			}
			if has(t, a.Expr, label) && !strings.Contains(a.Annotations["summary"], "$labels."+label) {
				t.Errorf("%s: the summary does not name the %s: write {{ $labels.%s }}", a.Alert, label, label)
			}
		}
	}
}

// has reports whether an alert on expr can have a label. Only the first metric counts: what comes after `unless on
// (…)` or `> on (…)` adds no label.
func has(t *testing.T, expr, label string) bool {
	t.Helper()
	if by := regexp.MustCompile(`^(?:count|sum|max) by \(([^)]*)\)`).FindStringSubmatch(expr); by != nil {
		return slices.Contains(strings.Split(by[1], ", "), label)
	}
	found := metricsIn(expr)
	return len(found) > 0 && slices.Contains(metrics(t)[found[0]], label)
}
