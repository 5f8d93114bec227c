package main

import (
	"errors"
	"fmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
)

// spared is a key that has its next pair in advance.
const spared = "spared"

// promoting is that of a spare, with which a rotation begins.
var promoting = act{
	points:  []string{"save-before spare promoted", "save-after spare promoted"},
	prepare: (*world).spare,
	begin:   func(w *world) error { return w.rotate(spared) },
	undone:  unspared,
	once:    func(c emulator.RequestLog) bool { return c.Operation == "import" && c.Key == spared },
	result:  chain.SparePromoted,
}

// reserving is that of the next spare, after such a rotation.
var reserving = act{
	points:  []string{"save-before spare reserved", "save-after spare reserved"},
	prepare: (*world).spare,
	begin:   func(w *world) error { return w.rotate(spared) },
	undone:  unspared,
	result:  chain.SpareReserved,
}

// discarding is that of a spare that the configuration asks for no longer.
var discarding = act{
	points:  []string{"save-before spare discarded", "save-after spare discarded"},
	prepare: (*world).spare,
	begin:   (*world).discard,
	undone:  undestroyed,
	result:  chain.SpareDiscarded,
	of:      "id",
}

// destroying is that of the pair of a spare that was discarded.
var destroying = act{
	points: []string{
		"save-before destruction intended", "save-after destruction intended", "sweep-before", "sweep-after",
		"save-before abandoned pair destroyed", "save-after abandoned pair destroyed",
	},
	sample:  "sweep-after",
	prepare: (*world).spare,
	begin:   (*world).discard,
	undone:  undestroyed,
	result:  chain.Destroyed,
	of:      "id",
}

// spare waits until the key has its spare.
func (w *world) spare() error {
	const policy = "vaults: [weu], spares: 1"
	if err := w.add(spared, policy); err != nil {
		return err
	}
	if w.policies[spared] != policy {
		if err := w.setPolicy(spared, policy); err != nil {
			return err
		}
	}
	return w.await("the spare is made", unspared)
}

// discard has the configuration ask for no spare. The leader may die of it.
func (w *world) discard() error {
	w.policies[spared] = "vaults: [weu]"
	return w.reconfigure()
}

// unspared says what the key lacks until its rotations are done and it has a spare again.
func unspared(w *world, s status.Snapshot) string {
	if why := w.undone(s); why != "" {
		return why
	}
	if k, _ := s.Key(spared); k.Spares == nil || k.Spares.Ready != 1 || len(k.Spares.Generations) != 1 {
		return fmt.Sprintf("the spares of the key are %+v", k.Spares)
	}
	return w.unlikePending(1)
}

// undestroyed says what is left of the spare.
func undestroyed(w *world, s status.Snapshot) string {
	if k, _ := s.Key(spared); k.Spares != nil {
		return fmt.Sprintf("the spares of the key are %+v", k.Spares)
	}
	return w.unlikePending(0)
}

// unlikePending says how many pairs of the key the token has that no vault can have, if it is not that many.
func (w *world) unlikePending(want int) string {
	pairs, err := w.pairs()
	n := 0
	for _, p := range pairs {
		if p.label.Key == spared && p.label.Pending {
			n++
		}
	}
	if err == nil && n != want {
		err = errors.New(fmt.Sprint("the token has ", n, " pairs of the key that were never wrapped, not ", want))
	}
	if err != nil {
		return err.Error()
	}
	return ""
}
