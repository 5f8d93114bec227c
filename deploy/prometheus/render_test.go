package prometheus_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/trouble"
)

var update = flag.Bool("update", false, "write the shipped files anew")

// The table of internal/trouble has each fact about a cause. The shipped files are made from it and from the templates,
// which have what is the alerts' own.
func TestTheShippedFilesAreMadeFromTheTable(t *testing.T) {
	for _, name := range []string{"keyd.rules", "alertmanager"} {
		made := render(t, name+".tmpl")
		shipped := name + ".yml"
		if *update {
			if err := os.WriteFile(shipped, []byte(made), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(made, read(t, shipped)); diff != "" {
			t.Errorf("%s (-want +got; go test ./deploy/prometheus -update writes it anew):\n%s", shipped, diff)
		}
	}
}

// functions are what the templates take from the table.
var functions = template.FuncMap{
	"severity": func(alert string) (string, error) {
		s, ok := trouble.AlertSeverity(alert)
		if !ok {
			return "", fmt.Errorf("no row of the table names the alert %s", alert)
		}
		return string(s), nil
	},
	"runbooks": func() string { return trouble.Runbooks },
	"span": func(cause string) (string, error) {
		r, err := row(cause)
		return promSpan(r.Threshold), err
	},
	"seconds": func(cause string) (string, error) {
		r, err := row(cause)
		return promSeconds(r.Threshold), err
	},
	"limit": func(cause string) (float64, error) {
		r, err := row(cause)
		return r.Limit, err
	},
	"inhibitions": trouble.Inhibitions,
	"matchers":    matchers,
	"equal": func(more []string) string {
		return strings.Join(append([]string{"job", "instance", "host"}, more...), ", ")
	},
}

func render(t *testing.T, name string) string {
	t.Helper()
	tmpl, err := template.New(name).Delims("[[", "]]").Funcs(functions).ParseFiles(name)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func row(cause string) (trouble.Row, error) {
	r := trouble.Of(trouble.Cause(cause))
	if r.Threshold == 0 && r.Limit == 0 {
		return r, fmt.Errorf("the table has no threshold and no limit for %s", cause)
	}
	return r, nil
}

// promSpan is a time as Prometheus writes it.
func promSpan(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

// promSeconds is a time in seconds, as people can read it.
func promSeconds(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d > day && d%day == 0:
		return fmt.Sprintf("%d * 86400", d/day)
	case d > day && d%time.Hour == 0:
		return fmt.Sprintf("%d * 3600", d/time.Hour)
	}
	return fmt.Sprintf("%d", d/time.Second)
}

// matchers are those of a source or a target in Alertmanager's configuration, one a line.
func matchers(alerts []string, labels map[string]string) string {
	all := []string{matcher("alertname", alerts)}
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, matcher(name, strings.Split(labels[name], "|")))
	}
	return "\n      - " + strings.Join(all, "\n      - ")
}

// matcher matches any of the values. A backslash at the end of a line joins it to the next one.
func matcher(name string, values []string) string {
	line := `"` + name + ` =~ \"`
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			v = "|" + v
		}
		if len(line)+len(v) > 105 {
			b.WriteString(line + "\\\n          ")
			line = ""
		}
		line += v
	}
	b.WriteString(line + `\""`)
	return b.String()
}

// An inhibition that names an alert or a label that does not exist does nothing, and says nothing.
func TestInhibitionsNameAlertsAndLabelsThatExist(t *testing.T) {
	labels := map[string][]string{}
	for _, a := range alerts(t) {
		found := metricsIn(a.Expr)
		if len(found) > 0 {
			labels[a.Alert] = append([]string{"job", "instance"}, metrics(t)[found[0]]...)
		}
		if labels[a.Alert] == nil {
			labels[a.Alert] = []string{"job", "instance"}
		}
	}
	for _, in := range trouble.Inhibitions() {
		if in.Why == "" {
			t.Errorf("no reason for %+v", in)
		}
		for _, side := range []struct {
			alerts []string
			labels map[string]string
		}{{in.Sources, in.With}, {in.Targets, in.And}} {
			for _, alert := range side.alerts {
				has := labels[alert]
				if has == nil {
					t.Errorf("%s: there is no alert %s", in.Why, alert)
				}
				for name := range side.labels {
					if !slices.Contains(has, name) {
						t.Errorf("%s: %s has no label %s", in.Why, alert, name)
					}
				}
				for _, name := range in.Equal {
					if !slices.Contains(has, name) {
						t.Errorf("%s: %s has no label %s", in.Why, alert, name)
					}
				}
			}
		}
	}
}

// What is critical is never silenced by a warning, except where the warning's cause is the more certain one.
func TestNoWarningSilencesWhatIsCritical(t *testing.T) {
	for _, in := range trouble.Inhibitions() {
		for _, source := range in.Sources {
			for _, target := range in.Targets {
				from, _ := trouble.AlertSeverity(source)
				to, _ := trouble.AlertSeverity(target)
				if to < from { // critical sorts before warning
					t.Errorf("%s: %s is %s and silences %s, which is %s", in.Why, source, from, target, to)
				}
			}
		}
	}
}
