package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/softhsm-test/measure"
)

// goals are the calls that a key may cost. What is done once for a vault, such as making its key exchange key, comes
// on top of the first two. Of the proofs that are under way when the counting begins and ends, some calls come on top.
var goals = struct {
	newKey, rotation, proof, quietLook, restart float64
	onceForAVault, atTheEdges                   int
}{newKey: 6, rotation: 5, proof: 2, quietLook: 0.1, restart: 0.1, onceForAVault: 15, atTheEdges: 4}

// row is a count with its goal.
type row struct {
	name    string
	calls   int     // in all
	times   int     // how often it was done
	goal    float64 // of one
	besides int     // calls that come on top
}

func (r row) each() float64 { return float64(r.calls) / float64(r.times) }

func (r row) over() bool { return float64(r.calls) > r.goal*float64(r.times)+float64(r.besides) }

// table is everything that was measured.
type table struct {
	*story
	rows []row
}

func (s *story) table() table {
	once := goals.onceForAVault * s.vaults
	return table{s, []row{
		{"calls per new key", s.up.ofTheKeys(), s.keys, goals.newKey, once},
		{"calls per rotation", s.rotation.ofTheKeys(), s.keys, goals.rotation, once},
		{"calls per proof", s.proofs.vault.Sum(), s.proofsDone, goals.proof, goals.atTheEdges},
		s.quietLooks(),
		{"calls per restart", s.restart.ofTheKeys(), s.keys, goals.restart, 0},
	}}
}

func (s *story) quietLooks() row {
	return row{"calls per quiet look", s.quiet.ofTheKeys(), s.keys * s.looks, goals.quietLook, 0}
}

// excess names the rows that are over their goal.
func (t table) excess() (names []string) {
	for _, r := range t.rows {
		if r.over() {
			names = append(names, fmt.Sprintf("%s %.2f, not %g", r.name, r.each(), r.goal))
		}
	}
	return names
}

func (t table) print(out io.Writer) {
	fmt.Fprintf(out, "keys of RSA-2048: %d; vaults: %d; quiet looks: %d\n\n", t.keys, t.vaults, t.looks)
	fmt.Fprintf(out, "%-28s %10s %6s\n", "", "measured", "goal")
	for _, r := range t.rows {
		verdict := ""
		if r.over() {
			verdict = "  over"
		}
		fmt.Fprintf(out, "%-28s %10.2f %6g%s\n", r.name, r.each(), r.goal, verdict)
	}
	fmt.Fprintln(out, "(Without the wraps and unwraps of routine proofs, but for the row of proofs. "+
		"A restart counts until READY.)")
	t.printKinds(out, "calls to the vaults", func(c counts) measure.Kinds { return c.vault })
	t.printKinds(out, "calls to the HSM side", func(c counts) measure.Kinds { return c.hsmSide })
	t.printKinds(out, "calls of the PKCS#11 library", func(c counts) measure.Kinds { return c.pkcs11 })
	t.printCosts(out)
	if t.late {
		fmt.Fprintf(out, "\nThe quiet looks passed %d times as fast as in life, and keyd did not keep up: "+
			"their numbers are wrong.\n", t.factor)
	}
}

// column is a part of the story and how often it did what it counts.
type column struct {
	name string
	part
	times int
}

func (t table) columns() []column {
	return []column{
		{"new key", t.up, t.keys}, {"rotation", t.rotation, t.keys}, {"proof", t.proofs, t.proofsDone},
		{"quiet look", t.quiet, t.keys * t.looks}, {"restart", t.restart, t.keys},
	}
}

// printKinds prints a line for each kind of call and a column for each part, by the piece.
func (t table) printKinds(out io.Writer, title string, of func(counts) measure.Kinds) {
	kinds := map[string]bool{}
	fmt.Fprintf(out, "\n%-28s", title)
	for _, c := range t.columns() {
		fmt.Fprintf(out, " %10s", c.name)
		for kind, n := range of(c.counts) {
			if n > 0 {
				kinds[kind] = true
			}
		}
	}
	line := func(name string, n func(counts) int) {
		fmt.Fprintf(out, "\n%-28s", name)
		for _, c := range t.columns() {
			fmt.Fprintf(out, " %10s", short(float64(n(c.counts))/float64(c.times)))
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		line("  "+kind, func(c counts) int { return of(c)[kind] })
	}
	line("  all", func(c counts) int { return of(c).Sum() })
	fmt.Fprintln(out)
}

// short is a number with as many digits as say something.
func short(x float64) string {
	if x == 0 {
		return "-"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.2f", x), ".00")
}
