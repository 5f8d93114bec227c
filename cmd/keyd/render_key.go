package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// rank orders states by how much they need a person.
func rank(state string) int {
	return slices.Index([]string{
		status.StateHeld, status.StateFailing, status.StatePartial, status.StateNew,
		status.StateRotating, status.StateOK, status.StateRetained,
	}, state)
}

func troublesFirst(keys []status.Key) []status.Key {
	return slices.SortedStableFunc(slices.Values(keys), func(x, y status.Key) int {
		return cmp.Or(cmp.Compare(rank(x.State), rank(y.State)), cmp.Compare(x.Name, y.Name))
	})
}

func statePaint(s style, state string) func(string) string {
	switch state {
	case status.StateHeld, status.StateFailing:
		return s.bad
	case status.StateOK:
		return s.good
	case status.StateRetained:
		return nil
	default:
		return s.warn
	}
}

func keyRow(s style, snap status.Snapshot, k status.Key) []cell {
	generation, vaults := "–", "–"
	if g := newest(k); g != nil {
		generation = fmt.Sprint(g.Number)
		vaults = fmt.Sprintf("%d of %d", activeIn(k, g), len(k.Vaults))
	}
	proof := lastProof(k)
	proofCell := cell{text: "none yet"}
	if proof != nil {
		proofCell = cell{fmt.Sprintf("%s %s", proof.Outcome, when(snap.At, proof.At)), proofPaint(s, proof.Outcome)}
	}
	return []cell{
		{k.Name, nil}, {k.State, statePaint(s, k.State)}, {generation, nil}, {vaults, nil}, proofCell, {nextRotation(snap, k), nil},
	}
}

func nextRotation(snap status.Snapshot, k status.Key) string {
	switch {
	case k.Doing != "":
		return "under way: " + k.Doing
	case k.Hold != nil:
		return "on hold"
	case k.Retained:
		return "none: not in the configuration"
	case k.NextRotation.IsZero():
		return "on request only"
	default:
		return when(snap.At, k.NextRotation)
	}
}

// newest is the generation with the highest number that was not discarded.
func newest(k status.Key) *key.Generation {
	r := key.Record{Generations: k.Generations}
	return r.Latest()
}

func activeIn(k status.Key, g *key.Generation) int {
	n := 0
	for _, url := range k.Vaults {
		if p := g.In(url); p != nil && p.State == key.Proven {
			n++
		}
	}
	return n
}

// lastProof is the worst of the newest versions' last proofs: of those that did
// not pass the latest, otherwise the oldest pass.
func lastProof(k status.Key) *status.Proof {
	var worst *status.Proof
	for i := range k.Proofs {
		p := &k.Proofs[i]
		if !p.Newest {
			continue
		}
		switch {
		case worst == nil,
			worst.Outcome == key.Passed && p.Outcome != key.Passed,
			worst.Outcome == key.Passed && p.At.Before(worst.At):
			worst = p
		}
	}
	return worst
}

func proofPaint(s style, o key.Outcome) func(string) string {
	switch o {
	case key.Passed:
		return s.good
	case key.WasRefuted:
		return s.bad
	default:
		return s.warn
	}
}

// writeKey shows one key in full: a line for each generation, the newest first.
func writeKey(w io.Writer, s style, snap status.Snapshot, k status.Key) {
	state := k.State
	if paint := statePaint(s, k.State); paint != nil {
		state = paint(state)
	}
	fmt.Fprintf(w, "%s: %s\n", s.bold(clean(k.Name)), state)
	var t table
	add := func(name, text string) {
		if text != "" {
			t.add(plain(name, text)...)
		}
	}
	if k.Hold != nil {
		add("on hold", fmt.Sprintf("%s (by %s, %s)", k.Hold.Reason, k.Hold.By, when(snap.At, k.Hold.Since)))
	}
	add("error", k.Error)
	add("doing", k.Doing)
	add("waiting", k.Waiting)
	add("spec", string(k.Spec))
	add("schedule", orNone(k.Schedule))
	add("last rotation", when(snap.At, k.LastRotation))
	add("next rotation", nextRotation(snap, k))
	for _, q := range k.Requests {
		add("request", fmt.Sprintf("%s by %s, %s: %s", q.ID, q.By, when(snap.At, q.At), orNone(q.Reason)))
	}
	t.write(w, "  ")
	for _, g := range slices.Backward(k.Generations) {
		fmt.Fprintln(w, oneLine(generationLine(snap, k, g)))
	}
}

func generationLine(snap status.Snapshot, k status.Key, g key.Generation) string {
	line := fmt.Sprintf("generation %d  %s  %s  sha256 %s", g.Number, g.State(), g.Spec, orNone(g.Fingerprint.Short()))
	var parts []string
	for _, p := range g.Placements {
		if p.State == key.Void {
			continue
		}
		parts = append(parts, placement(snap, k, p))
	}
	if len(parts) > 0 {
		line += "  " + strings.Join(parts, "; ")
	}
	return line
}

func placement(snap status.Snapshot, k status.Key, p key.Placement) string {
	version := p.Version
	if version == "" {
		version = "(version not known yet)"
	}
	text := fmt.Sprintf("%s %s %s", p.VaultName, version, p.State)
	for _, proof := range k.Proofs {
		if proof.Vault == p.Vault && proof.Version == p.Version && p.Version != "" {
			return text + fmt.Sprintf(", proof %s %s", proof.Outcome, when(snap.At, proof.At))
		}
	}
	if !p.ProvenAt.IsZero() {
		return text + ", proof passed " + when(snap.At, p.ProvenAt)
	}
	return text
}
