package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// labelFlag adds the flag --label to a command that works on groups of keys.
func (a *app) labelFlag(cmd *cobra.Command, labels *[]string, usage string) {
	cmd.Flags().StringArrayVar(labels, "label", nil, usage+"; may be repeated: the keys that have all of them")
	_ = cmd.RegisterFlagCompletionFunc("label", a.complete(labelNames)) // fails only for a flag that does not exist
}

// chosen is a snapshot of a part of the keys. A label or a vault that no key has is a mistake in the command.
func (a *app) chosen(ctx context.Context, sel status.Selection) (status.Snapshot, error) {
	snap, err := a.client().Snapshot(ctx, sel)
	if err != nil || len(snap.Keys) > 0 {
		return snap, err
	}
	all, err := a.client().Snapshot(ctx, status.Selection{Brief: true})
	if err != nil {
		return snap, err
	}
	if sel.Vault != "" {
		if err := knownVaults(all, []string{sel.Vault}); err != nil {
			return snap, err
		}
	}
	return snap, knownLabels(all, sel.Labels)
}

// knownLabels refuses labels that no key has.
func knownLabels(snap status.Snapshot, labels []string) error {
	known := labelNames(snap, nil)
	for _, l := range labels {
		if slices.Contains(known, l) {
			continue
		}
		if len(known) == 0 {
			return usagef("no key has the label %q: write labels: [%s] to keys in the configuration, then run "+
				"`keyd reload`", l, l)
		}
		return usagef("no key has the label %q; %sthe labels are %s", l, didYouMean(l, known),
			strings.Join(known, ", "))
	}
	return nil
}

// labelNames lists the labels of all keys.
func labelNames(snap status.Snapshot, _ []string) []string {
	var names []string
	for _, k := range snap.Keys {
		names = append(names, k.Labels...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// labelled returns the names of the configured keys that have all of these labels.
func (a *app) labelled(ctx context.Context, labels []string) ([]string, error) {
	for _, l := range labels {
		if !key.ValidName(l) {
			return nil, usagef("%q cannot be a label: a label has letters, digits and hyphens", l)
		}
	}
	snap, err := a.chosen(ctx, status.Selection{Labels: labels, Brief: true})
	if err != nil {
		return nil, err
	}
	if len(snap.Keys) == 0 {
		return nil, usagef("no key has all of the labels %s: `keyd status --label %s` lists those that have the first",
			strings.Join(labels, ", "), labels[0])
	}
	return keyNames(snap), nil
}
