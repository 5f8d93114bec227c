// Package grafana holds the dashboard that operators import, and lists its Prometheus
// queries. Its rule: only tests use this package; Grafana gets the file.
package grafana

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

//go:embed keyd.json
var file []byte

// Dashboard is the part of Grafana's model that the tests check.
type Dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Templating    struct{ List []Variable }
	Annotations   struct {
		List []struct{ Name, Expr, TextFormat string }
	}
	Panels []Panel
	Links  []Link
}

// Variable is a variable at the top of the dashboard.
type Variable struct{ Name, Type, Definition string }

// Link leads out of the dashboard or of a panel.
type Link struct{ Title, URL string }

// Panel is a row's heading or a panel that draws its targets.
type Panel struct {
	ID                 int
	Type               string
	Title, Description string
	Datasource         struct{ Type, UID string }
	GridPos            struct{ X, Y, W, H int }
	FieldConfig        struct{ Defaults struct{ Unit string } }
	Targets            []struct{ Expr, LegendFormat, RefID string }
	Links              []Link
}

// Load parses the dashboard.
func Load() (d Dashboard, err error) {
	err = json.Unmarshal(file, &d)
	return d, err
}

// Query is a query of the dashboard.
type Query struct {
	Where  string // the panel and target, annotation or variable
	Expr   string // PromQL, with Grafana's variables in it
	Legend string // the legend of the series; {{label}} stands for a label
}

// Queries lists all queries. It translates a variable's label_values(METRIC, LABEL) to
// PromQL.
func (d Dashboard) Queries() (all []Query, err error) {
	for _, p := range d.Panels {
		for _, t := range p.Targets {
			all = append(all, Query{p.Title + " " + t.RefID, t.Expr, t.LegendFormat})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, Query{"annotation " + a.Name, a.Expr, a.TextFormat})
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := regexp.MustCompile(`^label_values\((.+), ([a-z]+)\)$`).FindStringSubmatch(v.Definition)
		if m == nil {
			return nil, fmt.Errorf("variable %s: %q is not label_values(METRIC, LABEL)", v.Name, v.Definition)
		}
		all = append(all,
			Query{"variable " + v.Name, fmt.Sprintf("count by (%s) (%s)", m[2], m[1]), "{{" + m[2] + "}}"})
	}
	return all, nil
}

// Substitute replaces Grafana's variables: by a pattern for every value, and the rate
// interval by interval, such as "1m".
func Substitute(expr, interval string) string {
	return strings.NewReplacer("$instance", ".*", "$key", ".*", "$vault", ".*", "$__rate_interval",
		interval).Replace(expr)
}
