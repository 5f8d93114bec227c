package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// retired is a key whose rule disables a version one day after it was superseded.
const (
	retired = "retired"
	rule    = "vaults: [weu], consumers: none, retire: {disable_after: 1d, pause: 1m}"
	aDay    = 24 * time.Hour
)

// disabling is that of a version that was superseded a day ago.
var disabling = act{
	points: []string{
		"save-before disabling intended", "save-after disabling intended", "disable-before", "disable-after",
		"save-before disabled", "save-after disabled",
	},
	prepare: func(w *world) error {
		if err := w.supersede(); err != nil {
			return err
		}
		return w.ask("retire", retired, "--yes")
	},
	begin: func(w *world) error { return w.pass(aDay) },
	undone: func(w *world, s status.Snapshot) string {
		all := w.versions(retired)
		for _, x := range all[:len(all)-1] {
			if x.Enabled || w.stateOf(s, x.ID) != key.Disabled {
				return fmt.Sprintf("version %s: enabled %t, recorded as %s", x.ID, x.Enabled, w.stateOf(s, x.ID))
			}
		}
		if !all[len(all)-1].Enabled {
			return "the newest version is disabled"
		}
		return ""
	},
	result: chain.Disabled,
	of:     "version",
}

// enabling is that of a version that somebody disabled.
var enabling = act{
	points: []string{"save-before enabled", "save-after enabled"},
	prepare: func(w *world) error {
		if err := w.supersede(); err != nil {
			return err
		}
		return w.azure.Vault(actHost).SetEnabled(retired, w.older(), false)
	},
	begin: func(w *world) error { return w.ask("enable", retired, w.older()) },
	undone: func(w *world, s status.Snapshot) string {
		for _, x := range w.versions(retired) {
			if x.ID == w.older() && !x.Enabled {
				return "version " + x.ID + " is disabled"
			}
		}
		return ""
	},
	result: chain.Enabled,
	of:     "version",
}

// supersede makes another generation of the key.
func (w *world) supersede() error {
	return errors.Join(w.add(retired, rule), w.rotate(retired), w.settle())
}

// older is the version that the newest one superseded.
func (w *world) older() string {
	all := w.versions(retired)
	return all[len(all)-2].ID
}

// stateOf is what a host's record says of a version.
func (w *world) stateOf(s status.Snapshot, version string) key.PlacementState {
	k, _ := s.Key(retired)
	for _, g := range k.Generations {
		for _, p := range g.Placements {
			if p.Version == version {
				return p.State
			}
		}
	}
	return ""
}
