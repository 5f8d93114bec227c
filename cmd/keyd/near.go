package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// didYouMean is the hint in an error about an unknown name: the known names that are near to it, the nearest first,
// as "did you mean a or b? ", or "".
func didYouMean(name string, known []string) string {
	var near []string
	for _, k := range known {
		if isNear(name, k) {
			near = append(near, k)
		}
	}
	if len(near) == 0 {
		return ""
	}
	const most = 3
	slices.SortFunc(near, func(x, y string) int {
		return cmp.Or(cmp.Compare(words.Distance(name, x), words.Distance(name, y)), cmp.Compare(x, y))
	})
	return "did you mean " + strings.Join(near[:min(most, len(near))], " or ") + "? "
}

// isNear reports whether a user probably meant this name: they mistyped at most a third of it, or typed its
// beginning.
func isNear(typed, meant string) bool {
	typed, meant = strings.ToLower(typed), strings.ToLower(meant)
	if len(typed) >= 2 && strings.HasPrefix(meant, typed) {
		return true
	}
	return words.Distance(typed, meant) <= max(1, min(len(typed), len(meant))/3)
}

// find returns the key with that name, whose case may differ, or an error that suggests others.
func find(snap status.Snapshot, name string) (status.Key, error) {
	k, ok := snap.Key(name)
	if !ok {
		return k, usagef("there is no key %q; %s`keyd status` lists the keys", name, didYouMean(name, keyNames(snap)))
	}
	return k, nil
}

// mustKnow is find for commands that only act, so that all of them answer a mistyped name in the same way. It returns
// the name as the daemon spells it.
func (a *app) mustKnow(ctx context.Context, name string) (string, error) {
	snap, err := a.keysOf(ctx, status.Selection{Only: []string{name}, Brief: true})
	if err != nil {
		return "", err
	}
	k, err := find(snap, name)
	return k.Name, err
}

// keysOf is a snapshot of the named keys; of all of them, in brief, if one of the names does not exist: an error then
// suggests others.
func (a *app) keysOf(ctx context.Context, sel status.Selection) (status.Snapshot, error) {
	everyKey := status.Selection{Brief: true}
	for _, name := range sel.Only {
		if !key.ValidName(name) {
			return a.client().Snapshot(ctx, everyKey)
		}
	}
	snap, err := a.client().Snapshot(ctx, sel)
	if err != nil {
		return snap, err
	}
	for _, name := range sel.Only {
		if _, ok := snap.Key(name); !ok {
			return a.client().Snapshot(ctx, everyKey)
		}
	}
	return snap, nil
}

func keyNames(snap status.Snapshot) []string {
	names := make([]string, len(snap.Keys))
	for i, k := range snap.Keys {
		names[i] = k.Name
	}
	return names
}
