package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

func (a *app) approvals() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "approvals",
		Short: "Show the acts that wait for a second operator",
		Long: `approvals shows every act that waits for a second operator, because the configuration lists it in
approvals.acts: what it would do, who asked for it and why, and until when it waits.`,
		Example: "  keyd approvals\n  keyd approvals --json | jq -r '.[].id'",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			snap, err := a.client().Snapshot(cmd.Context(), status.Selection{Few: true, Brief: true})
			if err != nil {
				return err
			}
			return a.show(
				snap.Proposals,
				func(w io.Writer, s style) { writeProposals(w, s, snap.At, snap.Proposals) },
			)
		},
	})
}

func (a *app) approve() *cobra.Command {
	var yes bool
	cmd := a.onProposal(&cobra.Command{
		Use:   "approve PROPOSAL --reason TEXT",
		Short: "Approve what another operator asked for",
		Long: `approve shows an act that another operator asked for, and has it happen. It asks first on a
terminal, and needs --yes elsewhere. You must be another person than the one who asked: with another
uid and another login. The daemon refuses if the key, the configuration or what would follow has
changed since the act was proposed.`,
		Example: `  keyd approve 4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c --reason "anna called me, and I looked"`,
	}, func(ctx context.Context, snap status.Snapshot, p status.Proposal, reason string) error {
		if !yes {
			if !isTerminal(a.in) {
				return usagef("this would approve %s: add --yes to do it without being asked", clean(p.Words()))
			}
			writeProposals(a.err, styleOf(a.err), snap.At, []status.Proposal{p})
			if agreed, err := a.ask(ctx, "Approve it?"); err != nil || !agreed {
				a.note("Nothing was approved.")
				return err
			}
		}
		if err := a.client().Approve(ctx, p.ID, reason); err != nil {
			return err
		}
		return a.say(outcome{Done: "approved", Key: p.Key}, fmt.Sprintf("You approved: %s.", clean(p.Words())))
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "approve without being asked")
	return cmd
}

func (a *app) withdraw() *cobra.Command {
	return a.onProposal(&cobra.Command{
		Use:   "withdraw PROPOSAL --reason TEXT",
		Short: "End a proposal, so that nobody can approve it",
		Long: `withdraw ends a proposal. Any operator may withdraw any proposal: it only keeps an act from
happening.`,
		Example: `  keyd withdraw 4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c --reason "not needed any more"`,
	}, func(ctx context.Context, _ status.Snapshot, p status.Proposal, reason string) error {
		if err := a.client().Withdraw(ctx, p.ID, reason); err != nil {
			return err
		}
		return a.say(outcome{Done: "withdrawn", Key: p.Key}, fmt.Sprintf("Withdrawn: %s.", clean(p.Words())))
	})
}

// onProposal completes a command about one proposal.
func (a *app) onProposal(cmd *cobra.Command, act func(ctx context.Context, snap status.Snapshot, p status.Proposal,
	reason string) error) *cobra.Command {
	var reason string
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit records it (required)")
	cmd.ValidArgsFunction = a.complete(oneProposal)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if reason == "" {
			return usagef("--reason is required: the audit records it")
		}
		snap, err := a.client().Snapshot(cmd.Context(), status.Selection{Few: true, Brief: true})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(snap.Proposals, func(p status.Proposal) bool { return p.ID == key.ID(ids[0]) })
		if i < 0 {
			return &control.UsageError{Text: fmt.Sprintf("no proposal %s waits: keyd approvals lists those that do",
				ids[0])}
		}
		return act(cmd.Context(), snap, snap.Proposals[i], reason)
	}
	return a.jsonFlag(cmd)
}

func oneProposal(snap status.Snapshot, typed []string) (ids []string) {
	if len(typed) > 0 {
		return nil
	}
	for _, p := range snap.Proposals {
		ids = append(ids, string(p.ID))
	}
	return ids
}

func writeProposals(w io.Writer, s style, now time.Time, list []status.Proposal) {
	if len(list) == 0 {
		fmt.Fprintln(w, "Nothing waits for a second operator.")
		return
	}
	for i, p := range list {
		if i > 0 {
			fmt.Fprintln(w)
		}
		t := s.table()
		t.add(plain(string(p.ID), p.Words())...)
		for i, effect := range strings.Split(p.Effects, "\n") {
			would := ""
			if i == 0 {
				would = "  would"
			}
			t.add(plain(would, effect)...)
		}
		for _, row := range [][2]string{
			{"  asked for by", p.By.Actor + ", " + when(now, p.Since)},
			{"  reason", p.Reason},
			{"  ends", words.Moment(p.Until)},
			{"  digest", p.Digest},
		} {
			t.add(plain(row[0], row[1])...)
		}
		t.write(w, "")
	}
}
