package main

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const settings = key.ID("aa112233445566778899aabbccddeeff")

const proposal = key.ID("4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c")

// withProposals is healthy, with two acts that wait for a second operator.
func withProposals() status.Snapshot {
	s := healthy()
	anna := key.Person{Actor: "uid 1000 (anna), login anna", UID: 1000, Login: "anna"}
	s.Proposals = []status.Proposal{
		{Proposal: key.Proposal{ID: proposal, By: anna, Since: at(-2 * time.Hour), Until: at(22 * time.Hour),
			Digest: digest, Act: key.Act{Kind: key.ActEnable, Key: "sa-cmk-key", Reason: "a service cannot read",
				Arguments: map[string]string{"version": version(1)},
				Effects: "enables this version in vault contoso-weu again, and ends the consent to the " +
					"retire rule"}}},
		{Proposal: key.Proposal{ID: request, By: anna, Since: at(-time.Minute), Until: at(24*time.Hour - time.Minute),
			Digest: digest, Act: key.Act{Kind: key.ActKEK, Vault: weu, Reason: "yearly",
				Effects: "makes a new key exchange key in vault contoso-weu"}}, VaultName: "contoso-weu"},
		{Proposal: key.Proposal{ID: settings, By: anna, Since: at(-time.Minute), Until: at(24*time.Hour - time.Minute),
			Digest: digest, Act: key.Act{Kind: key.ActConfigure,
				Reason: "the configuration's files have other settings",
				Effects: "control.operators: 1000, 1001 -> 1000\n" +
					"keys.vaults of sa-cmk-key: " + weu + " -> " + weu + ", https://contoso-neu.vault.azure.net"}}},
	}
	return s
}

func (w *world) Approve(context.Context, key.ID, string) error { return w.refusal }

func (w *world) Withdraw(context.Context, key.ID, string) error { return w.refusal }

// secondOperator is the answer to an act that needs one.
var secondOperator = &control.ProposedError{Text: "resume sa-cmk-key needs a second operator. It waits until " +
	"2026-03-02T12:00:00Z as a proposal. A person other than you runs: keyd approve " + string(proposal) +
	" --reason …"}
