package main

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	diskSet = "/subscriptions/" + arm.Subscription +
		"/resourceGroups/emulator/providers/Microsoft.Compute/diskEncryptionSets/disks"
	diskPolicy = "vaults: [weu], consumers: [" + diskSet + "]"
	// diskMoves is longer than the disks need to move.
	diskMoves = 11 * time.Minute
)

// beginning is that of a replacement, for which an operator asks.
var beginning = act{
	points:  []string{"save-before replacement begun", "save-after replacement begun"},
	prepare: (*world).addNewKey,
	begin:   (*world).replaceKey,
	repeat:  (*world).replaceNow,
	undone:  unmoved,
	after:   func(w *world) error { return errors.Join(w.awaitDisks(), w.consent(), w.endReplacing()) },
	once:    func(c emulator.RequestLog) bool { return c.Operation == "resource" && c.Method == http.MethodPatch },
	result:  chain.ReplaceBegun,
}

// consenting is an operator's consent to disable the old key.
var consenting = act{
	points: []string{
		"save-before disabling of a replaced key consented to", "save-after disabling of a replaced key consented to",
	},
	prepare: (*world).leaveKey,
	begin:   (*world).consent,
	repeat:  (*world).consent,
	undone:  unreplaced,
	after:   (*world).endReplacing,
	result:  chain.ReplaceConsented,
}

// replacing is the end of a replacement, once the old key's last version is disabled.
var replacing = act{
	points:  []string{"save-before key replaced", "save-after key replaced"},
	prepare: (*world).leaveKey,
	begin:   (*world).consent,
	undone:  unreplaced,
	after:   (*world).endReplacing,
	result:  chain.Replaced,
}

// The disks go from key to key. oldKey is the one that they are under, or leave, and newKey the next one.
func (w *world) oldKey() string { return fmt.Sprint("disks-", w.replaced+1) }
func (w *world) newKey() string { return fmt.Sprint("disks-", w.replaced+2) }

// addNewKey makes the new key; and the old one with the disks, unless they are there.
func (w *world) addNewKey() error {
	old := w.oldKey()
	if w.policies[old] == "" {
		if err := w.add(old, "vaults: [weu]"); err != nil {
			return err
		}
		spec, err := arm.ParseSpec("disk=disks,key=" + actURL + "/keys/" + old + "/" + w.versions(old)[0].ID)
		if err != nil {
			return err
		}
		azure := w.azure.Consumers()
		if err := errors.Join(azure.Make(w.ctx, spec), azure.Write(w.ctx, "disks", []byte("a disk")),
			w.setPolicy(old, diskPolicy)); err != nil {
			return err
		}
	}
	return w.add(w.newKey(), "vaults: [weu]")
}

// replaceKey has an operator begin the replacement. Asked again, keyd goes on with it.
func (w *world) replaceKey() error {
	return w.ask("replace", w.oldKey(), "--with", w.newKey(), "--yes")
}

// replaceNow has the time pass, too, after which the leader looks at the disks.
func (w *world) replaceNow() error { return errors.Join(w.replaceKey(), w.pass(time.Minute)) }

// leaveKey goes on until the disks have left the old key.
func (w *world) leaveKey() error {
	return errors.Join(w.addNewKey(), w.replaceNow(), w.await("the disks are set to the new key", unmoved),
		w.awaitDisks())
}

// awaitDisks has the time pass that the disks need to move.
func (w *world) awaitDisks() error {
	err := w.pass(diskMoves)
	w.azure.Consumers().Poll(w.ctx)
	return err
}

// consent has an operator consent as soon as keyd takes the consent. The leader may die of it.
func (w *world) consent() error {
	armed := w.armed()
	return w.eventually("keyd takes the consent", func() bool {
		if w.ask("replace", w.oldKey(), "--disable", "--yes") != nil {
			return false
		}
		_, s := w.leader()
		k, _ := s.Key(w.oldKey())
		return armed && !w.armed() || k.Replaced != nil && k.Replaced.Consented
	})
}

// endReplacing waits for the end of the replacement, and has the configuration name the disks under the new key and no
// old key, as keyd then advises.
func (w *world) endReplacing() error {
	if err := errors.Join(w.calm(), w.await("the key is replaced", unreplaced)); err != nil {
		return err
	}
	old, newKey := w.oldKey(), w.newKey()
	w.keys = slices.DeleteFunc(w.keys, func(name string) bool { return name == old })
	w.replaced++
	return w.setPolicy(newKey, diskPolicy)
}

func unmoved(w *world, s status.Snapshot) string {
	if k, _ := s.Key(w.oldKey()); k.Replaced == nil || k.Replaced.Moved != 1 {
		return fmt.Sprintf("the replacement is %+v; %s", k.Replaced, k.Waiting)
	}
	return ""
}

func unreplaced(w *world, s status.Snapshot) string {
	k, _ := s.Key(w.oldKey())
	if k.Replaced == nil || k.Replaced.Done.IsZero() {
		return fmt.Sprintf("the replacement is %+v; %s", k.Replaced, k.Waiting)
	}
	if all := w.versions(w.oldKey()); len(all) != 1 || all[0].Enabled {
		return fmt.Sprintf("the old key has the versions %+v", all)
	}
	if all := w.versions(w.newKey()); len(all) != 1 || !all[0].Enabled {
		return fmt.Sprintf("the new key has the versions %+v", all)
	}
	if d := w.reading(diskSet); !strings.Contains(d.InUse, "/keys/"+w.newKey()+"/") || len(d.Lost) > 0 || d.Read == 0 {
		return fmt.Sprintf("the disks use %s, have read %d and lost %v", d.InUse, d.Read, d.Lost)
	}
	return ""
}

// reading is what a consumer can read.
func (w *world) reading(id string) arm.Reading {
	for _, c := range w.azure.Consumers().ReadEverything(w.ctx).Consumers {
		if strings.EqualFold(c.ID, id) {
			return c
		}
	}
	return arm.Reading{}
}
