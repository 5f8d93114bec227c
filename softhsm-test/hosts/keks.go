package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// makingKEK is the making of a new key exchange key that an operator asks for.
var makingKEK = act{
	points: []string{
		"save-before key exchange key intended", "save-after key exchange key intended", "kek-before", "kek-after",
		"save-before key exchange key made", "save-after key exchange key made",
	},
	sample:  "kek-after",
	prepare: func(*world) error { return nil },
	begin:   (*world).askForKEK,
	undone:  kekUnmade,
	after:   (*world).approveKEK,
	once: func(c emulator.RequestLog) bool {
		return c.Operation == "create" && c.Host == actHost && c.Path == "/keys/"+kekName+"/create"
	},
	result: chain.KEKMade,
	of:     "vault",

	unsure: []string{"save-after key exchange key intended", "kek-before"},
	waits:  func(s status.Snapshot) bool { return strings.Contains(vaultOf(s).KEKWaiting, "that keyd makes yet") },
	settle: 5 * time.Minute, // more than the deadline of the call and the vault's settle time
}

// usingKEK is the change to a new one, once operators have pinned it on each host.
var usingKEK = act{
	points:  []string{"save-before key exchange key taken into use", "save-after key exchange key taken into use"},
	prepare: (*world).newKEK,
	begin:   (*world).pinKEK,
	undone:  kekUnused,
	result:  chain.KEKUsed,
	of:      "kek",
}

// disablingKEK is that of the key exchange keys that were superseded, once no import can need them any more.
var disablingKEK = act{
	points: []string{
		"save-before disabling of a key exchange key intended", "save-after disabling of a key exchange key intended",
		"kek-disable-before", "kek-disable-after", "save-before key exchange key disabled",
		"save-after key exchange key disabled",
	},
	prepare: func(w *world) error { return errors.Join(w.newKEK(), w.approveKEK()) },
	begin:   func(w *world) error { return w.pass(time.Hour) }, // no import takes that long
	undone: func(w *world, s status.Snapshot) string {
		for _, x := range w.versions(kekName) {
			newest := x.ID == w.newestKEK()
			disabled := slices.ContainsFunc(vaultOf(s).KEKs, func(k status.KEK) bool {
				return strings.HasSuffix(k.Kid, x.ID) && k.State == key.KEKDisabled
			})
			if x.Enabled != newest || disabled == newest {
				return fmt.Sprintf("key exchange key %s: newest %t, enabled %t, recorded as disabled %t", x.ID, newest,
					x.Enabled, disabled)
			}
		}
		return ""
	},
	result: chain.KEKDisabled,
	of:     "kek",
}

func (w *world) askForKEK() error { return w.ask("kek", "rotate", actVault) }

// newKEK has one made that nobody has approved yet.
func (w *world) newKEK() error {
	return errors.Join(w.askForKEK(), w.await("the key exchange key is made", kekUnmade))
}

// pinKEK has each host trust what the vault has. The leader may die of it.
func (w *world) pinKEK() error {
	w.pin()
	return w.reconfigure()
}

// approveKEK waits until the newest one is in use.
func (w *world) approveKEK() error {
	if err := errors.Join(w.calm(), w.pinKEK()); err != nil {
		return err
	}
	return w.await("the key exchange key is used", kekUnused)
}

func kekUnmade(w *world, s status.Snapshot) string {
	waiting := vaultOf(s).WaitingKEK()
	if waiting == nil || !strings.HasSuffix(waiting.Kid, w.newestKEK()) {
		return "the newest key exchange key does not wait for approval"
	}
	return ""
}

func kekUnused(w *world, s status.Snapshot) string {
	if used := vaultOf(s).ActiveKEK(); used == nil || !strings.HasSuffix(used.Kid, w.newestKEK()) {
		return "the newest key exchange key is not in use"
	}
	return ""
}

func (w *world) newestKEK() string {
	all := w.versions(kekName)
	return all[len(all)-1].ID
}

func vaultOf(s status.Snapshot) status.Vault {
	i := slices.IndexFunc(s.Vaults, func(v status.Vault) bool { return v.URL == actURL })
	if i < 0 {
		return status.Vault{}
	}
	return s.Vaults[i]
}
