//go:build alerts

package alertstest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

const (
	rulesFile = "../../deploy/prometheus/keyd.rules.yml"
	docsFile  = "../../docs/metrics.md"
	// alertmanagerFile is Alertmanager's shipped configuration.
	alertmanagerFile = "../../deploy/prometheus/alertmanager.yml"
	// faster is the factor by which the test shortens the shipped rules' waiting times.
	faster = 200
)

// shorten divides the waiting times of a rule file, its `for:` and its ranges such as
// [15m], and changes nothing else.
func shorten(t *testing.T, rules string) string {
	t.Helper()
	return regexp.MustCompile(`(?m)(^ +(?:keep_firing_)?for: |\[)([0-9]+[smhd])(\]| #|$)`).ReplaceAllStringFunc(rules,
		func(found string) string {
			m := regexp.MustCompile(`^(.*?)([0-9]+)([smhd])(\]?| #)$`).FindStringSubmatch(found)
			unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour,
				"d": 24 * time.Hour}[m[3]]
			var n int
			if _, err := fmt.Sscan(m[2], &n); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s%dms%s", m[1], (time.Duration(n) * unit / faster).Milliseconds(), m[4])
		})
}

func TestShorteningARuleFileChangesOnlyItsWaitingTimes(t *testing.T) {
	shipped := "        expr: increase(x[30m]) > 5 or time() - y > 3600\n        for: 5m\n        for: 1d\n        " +
		"keep_firing_for: 10m # why\n        summary: for 5m\n"
	want := "        expr: increase(x[9000ms]) > 5 or time() - y > 3600\n        for: 1500ms\n        for: " +
		"432000ms\n        " +
		"keep_firing_for: 3000ms # why\n        summary: for 5m\n"
	if got := shorten(t, shipped); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
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

// documented returns the block of docs/metrics.md that contains a word.
func documented(t *testing.T, word string) string {
	t.Helper()
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, docsFile), -1) {
		if strings.Contains(m[1], word) {
			return m[1]
		}
	}
	t.Fatalf("%s shows no YAML with %s", docsFile, word)
	return ""
}

// replaced returns a documented or shipped block with each of the old texts replaced. Each must be
// there.
func replaced(t *testing.T, block string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(block, oldnew[i]) {
			t.Fatalf("%s does not show %q", docsFile, oldnew[i])
		}
		block = strings.ReplaceAll(block, oldnew[i], oldnew[i+1])
	}
	return block
}

// writeConfigurations writes the shipped configurations, with this test's addresses and
// paths, and with seconds instead of minutes.
func (w *world) writeConfigurations(t *testing.T) {
	t.Helper()
	w.write(t, "keyd.rules.yml", replaced(t, shorten(t, read(t, rulesFile)),
		`{moves="person"} > 7 * 86400`, `{moves="person"} > 5`)) // a week that no rule waits for, but an expression
	w.write(t, "prometheus.yml", "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"+
		replaced(t, documented(t, "scrape_configs"),
			"127.0.0.1:9889", w.web, "127.0.0.1:9093", w.alertmanager, "/usr/share/keyd/prometheus/keyd.rules.yml",
			filepath.Join(w.dir, "keyd.rules.yml")))
	w.write(t, "alertmanager.yml", replaced(t, read(t, alertmanagerFile),
		"https://pager.example/keyd", w.hook.url("/on-call"), "https://chat.example/keyd", w.hook.url("/today"),
		"group_wait: 30s", "group_wait: 1s", "group_interval: 5m", "group_interval: 1s"))
}

// alertNames returns the names of the shipped alerts.
func alertNames(t *testing.T) (names []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, rulesFile)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	return names
}
