package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/plan"
)

const smallConfig = `instance: docs
state_dir: %[1]s/state
hsm: {module: /lib/none.so, token: none, pin_file: %[1]s/pin}
azure: {credential: managed-identity}
`

// assembled is a daemon in which every room is made and nothing runs.
func assembled(t *testing.T) *Daemon {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "keyd.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, smallConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := build(Options{ConfigPath: path, Version: "test", Logger: slog.New(slog.DiscardHandler)}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	control.NewServer(d, nil, d.log, d.reg)
	return d
}

// registered is every metric of keyd's own, by name, with its labels.
func registered(d *Daemon) map[string]string {
	form := regexp.MustCompile(`fqName: "(keyd_[a-z_]+)".* variableLabels: \{([^}]*)\}`)
	descs := make(chan *prometheus.Desc)
	go func() {
		d.reg.Describe(descs)
		close(descs)
	}()
	found := map[string]string{}
	for desc := range descs {
		if m := form.FindStringSubmatch(desc.String()); m != nil {
			found[m[1]] = labelList(strings.Split(m[2], ","))
		}
	}
	return found
}

// documented is what the tables of docs/metrics.md list, in the same form, and the type of each metric.
func documented(t *testing.T) (labels, types map[string]string) {
	t.Helper()
	page := read(t, "../../docs/metrics.md")
	row := regexp.MustCompile("(?m)^\\| `(keyd_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\| ([^|]+) \\|$")
	labels, types = map[string]string{}, map[string]string{}
	for _, m := range row.FindAllStringSubmatch(page, -1) {
		if _, twice := labels[m[1]]; twice {
			t.Errorf("docs/metrics.md lists %s twice", m[1])
		}
		types[m[1]] = m[2]
		labels[m[1]] = labelList(strings.Split(strings.ReplaceAll(m[3], "`", ""), ","))
	}
	return labels, types
}

func labelList(labels []string) string {
	for i := range labels {
		labels[i] = strings.TrimSpace(labels[i])
	}
	slices.Sort(labels)
	return strings.Join(labels, ", ")
}

func TestDocsListEveryMetricWithItsLabels(t *testing.T) {
	want := registered(assembled(t))
	got, _ := documented(t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if labels, ok := got[name]; !ok {
			t.Errorf("docs/metrics.md does not list %s (labels %q)", name, want[name])
		} else if labels != want[name] {
			t.Errorf("docs/metrics.md gives %s the labels %q, and it has %q", name, labels, want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("docs/metrics.md lists %s, and keyd has no such metric", name)
		}
	}
	if len(want) < 20 {
		t.Errorf("only %d metrics are registered", len(want))
	}
}

func TestDocsGiveEachMetricItsType(t *testing.T) {
	families, err := assembled(t).reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	_, types := documented(t)
	for _, f := range families {
		if want := strings.ToLower(f.GetType().String()); types[f.GetName()] != "" && types[f.GetName()] != want {
			t.Errorf("docs/metrics.md says that %s is a %s, and it is a %s", f.GetName(), types[f.GetName()], want)
		}
	}
	for name, kind := range types {
		if strings.HasSuffix(name, "_total") != (kind == "counter") {
			t.Errorf("docs/metrics.md says that %s is a %s: only counters end in _total", name, kind)
		}
	}
}

// Each line of `keyd check` that names a runbook names one that the daemon itself serves.
func TestEveryCheckNamesAnExistingRunbook(t *testing.T) {
	anchors := anchorsOf(read(t, "../../docs/runbooks.md"))
	files, err := filepath.Glob("../check/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		for _, m := range regexp.MustCompile(`#(keyd[a-z]+)`).FindAllStringSubmatch(read(t, file), -1) {
			if found++; !anchors[m[1]] {
				t.Errorf("%s names %s, and docs/runbooks.md has no such section", file, m[1])
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d lines name a runbook", found)
	}
}

// anchorsOf is every heading's anchor, as GitHub makes it.
func anchorsOf(page string) map[string]bool {
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		text := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(text, " ", "-")] = true
	}
	return anchors
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheConfigurationInTheREADMELoads(t *testing.T) {
	yaml := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(read(t, "../../README.md"))
	if yaml == nil {
		t.Fatal("README.md shows no configuration")
	}
	path := filepath.Join(t.TempDir(), "keyd.yaml")
	if err := os.WriteFile(path, []byte(yaml[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Error(err)
	}
}

func TestEveryStepIsInTheArchitecture(t *testing.T) {
	page := read(t, "../../ARCHITECTURE.md")
	for _, kind := range plan.Kinds() {
		if !strings.Contains(page, "\n| `"+string(kind)+"` |") {
			t.Errorf("ARCHITECTURE.md has no row for the step %s", kind)
		}
	}
}

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md", "../../ARCHITECTURE.md") {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(read(t, page), -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, link[1], err)
			} else if anchor != "" && !anchorsOf(read(t, path))[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", page, link[1])
			}
		}
	}
}
