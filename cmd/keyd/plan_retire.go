package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// askAtOnce is of how many keys one request asks what is to be retired.
const askAtOnce = 100

// retirements are what a new configuration's retire rules are to disable, of those to which nobody has consented.
func (a *app) retirements(ctx context.Context, snap status.Snapshot, wanted []key.Policy) (all []status.Retirement,
	err error) {
	var questions []control.RetireQuestion
	for _, p := range wanted {
		if _, known := snap.Key(p.Key); !known || p.Retire.Never() {
			continue
		}
		q := control.RetireQuestion{Key: p.Key, Rule: &p.Retire}
		for _, v := range p.Vaults {
			q.Vaults = append(q.Vaults, v.URL)
		}
		questions = append(questions, q)
	}
	for some := range slices.Chunk(questions, askAtOnce) {
		shown, err := a.client().Retirements(ctx, some...)
		if err != nil {
			return nil, err
		}
		for i, r := range shown {
			shown[i].Consumers = consumersOf(wanted, r.Key)
		}
		all = append(all, slices.DeleteFunc(shown, func(r status.Retirement) bool { return r.Consented })...)
	}
	return all, nil
}

// consumersOf lists the ids of a key's consumers in a new configuration, which the daemon does not know.
func consumersOf(wanted []key.Policy, name string) (ids []string) {
	i := slices.IndexFunc(wanted, func(p key.Policy) bool { return key.SameName(p.Key, name) })
	if i < 0 {
		return nil
	}
	for _, c := range wanted[i].Consumers {
		ids = append(ids, c.ID)
	}
	return ids
}

func writeRetirements(w io.Writer, s style, all []status.Retirement) {
	for _, r := range all {
		fmt.Fprintf(w, "%s\n", s.bold("What the retire rule of "+clean(r.Key)+" disables, once somebody consents"))
		writeRetiring(w, s, r.Versions)
		fmt.Fprintf(
			w,
			"  Later versions follow when they have been superseded for %s, with a pause of %s between two.\n",
			seconds(r.DisableAfter),
			seconds(r.Pause),
		)
		writeWaits(w, s, "  ", r)
		fmt.Fprintf(w, "  Digest: %s\n", r.Digest)
		fmt.Fprintf(w, "  After `keyd reload`, consent with: keyd retire %s --reason TEXT\n", r.Key)
	}
}
