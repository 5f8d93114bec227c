package main

import (
	"context"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

const digest = "sha256:5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"

// Retirements: sa-cmk-key has a rule, to which somebody has consented in the healthy world and nobody in others.
func (w *world) Retirements(_ context.Context, q []control.RetireQuestion) (all []status.Retirement, err error) {
	for _, x := range q {
		if err := w.has(x.Key); err != nil {
			return nil, err
		}
		r := status.Retirement{Key: x.Key, Never: x.Key != "sa-cmk-key", DisableAfter: 400 * 86400, Pause: 86400,
			Digest: digest, Versions: []status.Retiring{}}
		if x.Rule != nil {
			r.DisableAfter, r.NoConsumers = int64(x.Rule.DisableAfter.Seconds()), x.Rule.NoConsumers
			r.UnusedFor, r.Backups = int64(x.Rule.UnusedFor.Seconds()), int64(x.Rule.Backups.Seconds())
		}
		for i, vault := range []string{"contoso-weu", "contoso-hsm"} {
			r.Versions = append(r.Versions, status.Retiring{Vault: vault, Generation: 1, Version: version(1),
				Since: at(-10 * 24 * time.Hour), At: at(time.Duration(390+i) * 24 * time.Hour)})
		}
		if w.consented && x.Rule == nil {
			r.Consented = true
			r.Consent = &status.Consent{At: at(-time.Hour), By: "uid 0 (root)", Reason: "as planned"}
			r.Waiting = "the retire rule allows it at 2027-03-26T12:00:00Z"
		}
		all = append(all, r)
	}
	return all, nil
}

func (w *world) ConsentToRetire(_ context.Context, _, k, _, shown string) error {
	if w.refusal != nil || shown != digest {
		return &control.RefusedError{
			Text: "key " + k + " or its retire rule has changed since it was shown: look again " +
				"with keyd retire " + k,
		}
	}
	return nil
}

func (w *world) Repoint(_ context.Context, _, k, _ string, consumers []string) error {
	if w.refusal != nil {
		return w.refusal
	}
	if slices.Contains(consumers, "ai-unknown") {
		return &control.RefusedError{Text: "key " + k + " has no consumer ai-unknown in the configuration: add its " +
			"resource id under consumers, then: keyd reload"}
	}
	return w.has(k)
}

func (w *world) Enable(_ context.Context, _, k, _, _ string) error {
	if w.refusal != nil {
		return w.refusal
	}
	return w.has(k)
}
