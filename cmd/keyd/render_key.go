package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func troublesFirst(keys []status.Key) []status.Key {
	return slices.SortedStableFunc(slices.Values(keys), func(x, y status.Key) int {
		return cmp.Or(cmp.Compare(status.Rank(x.State), status.Rank(y.State)), cmp.Compare(x.Name, y.Name))
	})
}

func statePaint(s style, state string) func(string) string {
	switch state {
	case status.StateHeld, status.StateFailing, status.StateTrouble:
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
	if g := k.Latest(); g != nil {
		generation = fmt.Sprint(g.Number)
		vaults = fmt.Sprintf("%d of %d", k.ActiveIn(g), len(k.Vaults))
	}
	proof := lastProof(k)
	proofCell := cell{text: "none yet"}
	if proof != nil {
		proofCell = cell{fmt.Sprintf("%s %s", proof.Outcome, when(snap.At, proof.At)), proofPaint(s, proof.Outcome)}
	}
	return []cell{
		{
			k.Name,
			nil,
		}, {k.State, statePaint(s, k.State)}, {generation, nil}, {vaults, nil}, proofCell, {nextRotation(snap, k), nil},
	}
}

func nextRotation(snap status.Snapshot, k status.Key) string {
	switch {
	case k.Doing != "":
		return "under way: " + k.Doing
	case k.Hold != nil:
		return "on hold for " + span(snap.At.Sub(k.Hold.Since))
	case k.Retained:
		return "none"
	case k.NextRotation.IsZero():
		return "on request"
	default:
		return when(snap.At, k.NextRotation)
	}
}

// lastProof is the worst of the newest versions' last proofs: the latest one that did not pass, otherwise the oldest
// pass.
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

// writeKey shows one key in full: its troubles, then every generation with its versions, the newest first.
func writeKey(w io.Writer, s style, snap status.Snapshot, k status.Key) {
	state := k.State
	if paint := statePaint(s, k.State); paint != nil {
		state = paint(state)
	}
	fmt.Fprintf(w, "%s: %s\n", s.bold(clean(k.Name)), state)
	t := s.table()
	for _, fact := range facts(snap, k) {
		if fact[1] != "" {
			t.add(plain(fact[:]...)...)
		}
	}
	t.write(w, "  ")
	writeProblems(w, s, snap.Problems) // that are about the key: the daemon chose them
	if len(k.Generations) > 0 {
		fmt.Fprintln(w)
		t = s.table()
		for _, g := range slices.Backward(k.Generations) {
			addGeneration(&t, s, snap, k, g)
		}
		t.write(w, "")
	}
	if c := k.Consumers; c != nil {
		fmt.Fprintf(w, "\n%s: %s\n", s.bold("CONSUMERS"), clean(consumersWords(snap.At, *c)))
		writeConsumers(w, s, snap, *c)
	}
}

// facts are names and values. A fact without a value is not shown.
func facts(snap status.Snapshot, k status.Key) [][2]string {
	var hold, spares, replaced string
	if k.Replaced != nil {
		replaced = k.Replaced.Words() + " (keyd replace " + k.Name + " --status)"
	}
	if k.Spares != nil {
		spares = k.Spares.Words()
	}
	if k.Hold != nil {
		hold = fmt.Sprintf("%s (by %s, %s)", k.Hold.Reason, k.Hold.By, dated(snap.At, k.Hold.Since))
	}
	all := [][2]string{
		{"on hold", hold},
		{"error", k.Error},
		{"doing", k.Doing},
		{"waiting", k.Waiting},
		{"spec", string(k.Spec)},
		{"schedule", cmp.Or(k.Schedule, "none")},
		{"labels", strings.Join(k.Labels, ", ")},
		{"last rotation", dated(snap.At, k.LastRotation)},
		{"next rotation", datedRotation(snap, k)},
		{"spares", spares},
		{"replacement", replaced},
		{"retire rule", retireRule(snap.At, k)},
	}
	for _, q := range k.Requests {
		all = append(
			all,
			[2]string{
				"request",
				fmt.Sprintf("%s by %s, %s: %s", q.ID, q.By, dated(snap.At, q.At), cmp.Or(q.Reason, "no reason")),
			},
		)
	}
	return all
}

// retireRule says what a key's retire rule does, and who consented to it.
func retireRule(now time.Time, k status.Key) string {
	r := k.Retire
	if r == nil {
		return "none: keyd disables nothing"
	}
	does := "disables a version " + seconds(r.DisableAfter) + " after it was superseded in every vault; "
	if r.Consent == nil {
		return does + "no operator has consented, so it disables nothing (keyd retire " + k.Name + ")"
	}
	return does + r.Consent.By + " consented " + dated(now, r.Consent.At)
}

// addGeneration adds a generation, and a row for each of its versions.
func addGeneration(t *table, s style, snap status.Snapshot, k status.Key, g status.Generation) {
	t.add(plain(fmt.Sprintf("generation %d  %s  %s  sha256 %s",
		g.Number, g.State, g.Spec, cmp.Or(g.Fingerprint.Short(), "not known yet")))...)
	if dates := generationDates(g); dates != "" {
		t.add(plain("", dates)...)
	}
	for _, p := range g.Placements {
		if p.State == key.Void {
			continue
		}
		proven, trouble := provenCell(s, snap, k, p)
		t.add(
			cell{text: "  " + p.VaultName},
			cell{text: cmp.Or(p.Version, "version not known yet")},
			cell{text: string(p.State)},
			proven,
			cell{text: placementDates(p)},
		)
		if trouble != "" {
			t.add(plain("", "→ "+trouble)...)
		}
	}
}

// provenCell is the last proof of a version, and what went wrong in it.
func provenCell(s style, snap status.Snapshot, k status.Key, p status.Placement) (c cell, trouble string) {
	for _, proof := range k.Proofs {
		if p.Version == "" || proof.Vault != p.Vault || proof.Version != p.Version {
			continue
		}
		if proof.Outcome == key.Passed {
			return cell{"proven " + when(snap.At, proof.At), s.good}, ""
		}
		return cell{fmt.Sprintf("%s %s", proof.Outcome, when(snap.At, proof.At)), proofPaint(s, proof.Outcome)},
			strings.Trim(proof.Leg+": "+proof.Error, ": ")
	}
	if !p.ProvenAt.IsZero() {
		return cell{"proven " + when(snap.At, p.ProvenAt), s.good}, ""
	}
	return cell{"not proven yet", s.warn}, ""
}
