package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/keyd-project/keyd/internal/emulator"
)

// ask has a host, the leader first, carry out a command. Where nobody knows whether it did, the command is repeated,
// unless somebody has died of it.
func (w *world) ask(args ...string) error {
	args = append(args, "--reason", "a test of several hosts")
	armed, why := w.armed(), ""
	err := w.eventually("a host takes a command", func() bool {
		why = ""
		for _, h := range slices.Backward(w.leaderLast()) {
			if armed && !w.armed() {
				return true
			}
			if !h.runs() {
				continue
			}
			_, err := h.command(append(args, "--socket", h.path("keyd.sock"))...)
			if err == nil {
				return true
			}
			why += "\n" + err.Error()
		}
		return false
	})
	if err != nil {
		err = fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// armed reports whether a process is to die at a point that none has passed yet.
func (w *world) armed() bool {
	_, err := os.Stat(w.path("kill"))
	return err == nil
}

// add puts a key into the configuration, unless it is there, and waits for its first generation.
func (w *world) add(name, policy string) error {
	if slices.Contains(w.keys, name) {
		return nil
	}
	w.keys = append(w.keys, name)
	w.wanted[name] = 1
	return errors.Join(w.setPolicy(name, policy), w.settle())
}

func (w *world) setPolicy(name, policy string) error {
	w.policies[name] = policy
	return errors.Join(w.configure(), w.reload(w.hosts...))
}

// reconfigure has each host read a new configuration. The leader, which may die of it, is the last: then no host that
// leads after it has the old one.
func (w *world) reconfigure() error {
	if err := w.configure(); err != nil {
		return err
	}
	for _, h := range w.leaderLast() {
		var last error
		if err := w.eventually("host "+h.name+" reads its configuration", func() bool {
			last = w.reload(h)
			return last == nil || h.killed()
		}); err != nil {
			return errors.Join(err, last)
		}
	}
	return nil
}

// The acts happen in one vault.
const (
	actVault = "weu"
	actHost  = "contoso-weu.vault.azure.net"
	actURL   = "https://" + actHost
)

// versions are those of a key in that vault, oldest first.
func (w *world) versions(name string) []emulator.VersionInfo {
	return w.azure.Vault(actHost).Versions(name)
}
