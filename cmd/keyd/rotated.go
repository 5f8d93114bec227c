package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// rotated is what a rotation made of one key.
type rotated struct {
	Key        string       `json:"key"`
	Generation int          `json:"generation"`
	Versions   []newVersion `json:"versions"`
}

// newVersion is the version of the new generation in one vault.
type newVersion struct {
	Vault   string `json:"vault"` // nickname
	Version string `json:"version"`
	URL     string `json:"url"` // of the key with this version
}

// showRotated shows the versions that the finished rotations made: with --json a line for each key. On a terminal it
// counts many keys.
func (a *app) showRotated(ctx context.Context, accepted []control.Accepted) error {
	if many := len(accepted); many > status.FewKeys && !a.json && a.style().width > 0 {
		a.note("%d keys have a new generation. keyd status KEY shows the versions of one.", many)
		return nil
	}
	sel := status.Selection{}
	for _, acc := range accepted {
		sel.Only = append(sel.Only, acc.Key)
	}
	snap, err := a.client().Snapshot(ctx, sel)
	if err != nil {
		return err
	}
	all := rotatedOf(snap, accepted)
	if a.json {
		enc := json.NewEncoder(a.out)
		for _, r := range all {
			if err := enc.Encode(withLists(r)); err != nil {
				return err
			}
		}
		return nil
	}
	return a.show(all, func(w io.Writer, s style) { writeRotated(w, s, all) })
}

// rotatedOf lists the generations that answer the accepted requests.
func rotatedOf(snap status.Snapshot, accepted []control.Accepted) (all []rotated) {
	for _, acc := range accepted {
		k, _ := snap.Key(acc.Key)
		g, finished := control.Answering(k, acc.Request)
		if !finished {
			continue
		}
		r := rotated{Key: k.Name, Generation: g.Number}
		for _, url := range k.Vaults {
			at := slices.IndexFunc(g.Placements, func(p status.Placement) bool {
				return p.Vault == url && p.State == key.Proven
			})
			if at >= 0 {
				p := g.Placements[at]
				r.Versions = append(r.Versions, newVersion{p.VaultName, p.Version,
					url + "/keys/" + k.Name + "/" + p.Version})
			}
		}
		all = append(all, r)
	}
	return all
}

func writeRotated(w io.Writer, s style, all []rotated) {
	t := s.table()
	for _, r := range all {
		for _, v := range r.Versions {
			t.add(plain(r.Key, fmt.Sprintf("generation %d", r.Generation), v.Vault, v.URL)...)
		}
	}
	t.write(w, "")
}
