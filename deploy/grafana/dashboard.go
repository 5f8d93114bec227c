// Package grafana holds the dashboard that operators import, and what it asks
// Prometheus for. Its rule: tests alone read it; Grafana gets the file.
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

// Dashboard is as much of Grafana's model as is looked at.
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

// Variable is one of those at the top of the dashboard.
type Variable struct{ Name, Type, Definition string }

// Link leads out of the dashboard or of a panel.
type Link struct{ Title, URL string }

// Panel is a row's heading or what draws its targets.
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

// Query is one that the dashboard asks.
type Query struct {
	Where  string // the panel and target, annotation or variable
	Expr   string // PromQL, with Grafana's variables in it
	Legend string // what the series are called; {{label}} stands for a label
}

// Queries lists all of them. That of a variable, label_values(METRIC, LABEL), becomes
// the PromQL for the same.
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

// Substitute puts values in the place of Grafana's variables: all that can be chosen,
// and interval, such as "1m", for the rate interval.
func Substitute(expr, interval string) string {
	return strings.NewReplacer("$instance", ".*", "$key", ".*", "$vault", ".*", "$__rate_interval",
		interval).Replace(expr)
}
