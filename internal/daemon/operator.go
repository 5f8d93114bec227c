package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/status"
)

// Acknowledge records that the actor answers for the enabled versions of a key's compromised material.
func (d *Daemon) Acknowledge(ctx context.Context, actor, name, reason string) error {
	p, err := d.policy(name)
	if err != nil {
		return err
	}
	return d.poked(p.Key, d.rotator.Acknowledge(ctx, p, actor, reason))
}

// Prove proves every version of a key now, before whatever else waits. The audit chain has who asked, and what came of
// it: keyd's own regular proofs are not in it.
func (d *Daemon) Prove(ctx context.Context, actor, name string) ([]status.Proof, error) {
	p, err := d.policy(name)
	if err == nil {
		ctx, err = d.under(ctx)
	}
	if err != nil {
		return nil, err
	}
	entry := chain.Entry{Key: p.Key, Event: chain.ProofRequested, Actor: actor}
	if err := d.store.Append(ctx, entry); err != nil {
		return nil, err
	}
	proofs, proofErr := d.health.Prove(priority.With(ctx, priority.Operator), p.Key)
	entry = chain.Entry{Key: p.Key, Event: chain.ProofEnded, Actor: "keyd", Fields: provenFields(p, proofs, proofErr)}
	// What happened is recorded even if whoever asked has gone.
	return proofs, errors.Join(proofErr, d.store.Append(context.WithoutCancel(ctx), entry))
}

// provenFields says what came of a key's proofs.
func provenFields(p key.Policy, proofs []status.Proof, err error) map[string]string {
	var passed int
	var others []string
	for _, proof := range proofs {
		if proof.Outcome == key.Passed {
			passed++
			continue
		}
		vault := proof.Vault
		if v, configured := p.Vault(vault); configured {
			vault = v.Name
		}
		outcome := proof.Outcome
		if outcome == "" {
			outcome = "not proven"
		}
		others = append(others, fmt.Sprintf("%s/%s %s", vault, proof.Version, outcome))
	}
	fields := map[string]string{"passed": fmt.Sprint(passed)}
	if len(others) > 0 {
		fields["others"] = strings.Join(others, ", ")
	}
	if err != nil {
		fields["error"] = err.Error()
	}
	return fields
}
