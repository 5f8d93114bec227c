package main

import (
	"fmt"
	"slices"
	"strings"
)

// bySchedule is the requester of a rotation that nobody requested.
const bySchedule = "schedule"

// tally counts what the demo showed.
type tally struct {
	world       bool           // the token and the vaults are there
	answered    bool           // keyd answered
	made        int            // generations, in the HSM
	versions    map[string]int // imported and proven, by vault
	generations int            // active in every vault
	newest      int            // of those
	asked       int            // rotations on request
	scheduled   int            // rotations by the schedule
	older       int            // versions that still unwrap at the end
	services    int            // that encrypt under the key
	items       int            // that they read at the end
}

func (t *tally) proven(vault string) {
	if t.versions == nil {
		t.versions = map[string]int{}
	}
	t.versions[vault]++
}

func (t *tally) finished(g generation) {
	t.generations++
	t.newest = g.Number
	switch {
	case g.Number == 1:
	case g.Requester == bySchedule:
		t.scheduled++
	default:
		t.asked++
	}
}

// verdict returns in one line what the demo showed.
func (t *tally) verdict() string {
	var parts []string
	if t.made > 0 {
		parts = append(parts, count(t.made, "generation")+" made in the HSM")
	}
	proofs := 0
	var vaults []string
	for _, v := range vaultNames {
		if n := t.versions[v]; n > 0 {
			vaults = append(vaults, fmt.Sprintf("%d into %s", n, v))
			proofs += n
		}
	}
	if proofs > 0 {
		parts = append(parts, count(proofs, "version")+" imported ("+strings.Join(vaults, ", ")+")",
			count(proofs, "proof")+" passed")
	}
	if t.older > 0 {
		parts = append(parts, count(t.older, "older version")+" still unwrapped")
	}
	if t.items > 0 {
		read := fmt.Sprintf("%s read all %s they wrote", count(t.services, "Azure service"), count(t.items, "item"))
		if n := t.asked + t.scheduled; n > 0 {
			read += " before and after " + count(n, "rotation")
		}
		parts = append(parts, read)
	}
	switch {
	case len(parts) > 0:
		return "Shown: " + strings.Join(parts, ", ") + "."
	case t.answered:
		return "Shown: keyd runs on a new token with two vaults; its first key was not made yet."
	case t.world:
		return "Shown: a token and two vaults were made; keyd was still starting."
	}
	return "Shown: nothing yet; the token and the vaults were still being made."
}

// missing lists what the demo did not reach.
func (t *tally) missing() (list []string) {
	if t.generations == 0 {
		list = append(list, "a key in both vaults")
	}
	if t.asked == 0 {
		list = append(list, "a rotation by command")
	}
	if t.scheduled == 0 {
		list = append(list, "a rotation by the schedule")
	}
	return list
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// listed returns text such as "a, b and c".
func listed(things []string) string {
	n := len(things) - 1
	if n == 0 {
		return things[0]
	}
	return strings.Join(slices.Clone(things[:n]), ", ") + " and " + things[n]
}
