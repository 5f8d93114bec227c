package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/ownership"
)

// acceptance is root's order to act on files without a second operator. Nothing offers it over a socket: only the file
// system decides who may give it.
type acceptance struct {
	Schema int    `json:"schema"`
	Files  string `json:"files"` // digest of the configuration's files
	Reason string `json:"reason"`
}

func acceptanceFile(stateDir string) string { return filepath.Join(stateDir, "accept-settings.json") }

// AcceptSettings orders the daemon of a configuration to act on all of it at its next reload or start, although a
// change of its settings needs a second operator. The audit chain keeps that, with the reason.
func AcceptSettings(configPath, reason string) error {
	if err := key.ValidReason(reason); err != nil {
		return err
	}
	cfg, err := config.Load(configPath)
	if err != nil {
		return err
	}
	info, err := os.Stat(cfg.StateDir)
	if err != nil {
		return fmt.Errorf("the daemon's state directory: %w; run this as root, on the machine of the daemon", err)
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if known && os.Geteuid() != 0 && os.Geteuid() != int(owner.Uid) {
		return fmt.Errorf("%s belongs to uid %d, and this is uid %d: run this as root, on the machine of the daemon",
			cfg.StateDir, owner.Uid, os.Geteuid())
	}
	text, err := json.MarshalIndent(acceptance{Schema: 1, Files: cfg.Digest(), Reason: reason}, "", "  ")
	if err != nil {
		return err
	}
	return writeFor(acceptanceFile(cfg.StateDir), append(text, '\n'), owner)
}

// writeFor writes a file as a whole, for the owner of its directory to read.
func writeFor(path string, data []byte, owner *syscall.Stat_t) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if owner != nil {
		err = errors.Join(err, f.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// acceptedByRoot is root's order for these very files; nil: none.
func acceptedByRoot(cfg *config.Config) (*acceptance, error) {
	path := acceptanceFile(cfg.StateDir)
	text, err := ownership.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is no order, which is no failure
	}
	a := &acceptance{}
	if err == nil {
		err = json.Unmarshal(text, a)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("root's order in %s cannot be used; remove it, or give it again: %w", path, err)
	case a.Files != cfg.Digest():
		return nil, fmt.Errorf("root's order in %s is about other files than the configuration's as they are now; "+
			"remove it, or give it again: keyd accept-settings --reason …", path)
	}
	return a, nil
}

// entry is what the audit chain keeps of the order.
func (a *acceptance) entry(changes string) *chain.Entry {
	return &chain.Entry{Event: chain.SettingsAccepted, Actor: "root", Fields: map[string]string{"reason": a.Reason,
		"files": a.Files, "effects": changes}}
}
