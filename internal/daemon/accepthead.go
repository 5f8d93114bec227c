package daemon

import (
	"fmt"
	"os"
	"syscall"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
)

// AcceptHead orders the HSM side of a configuration to go on from another head of the audit chain than the one that it
// signed last. Only root and the HSM side's own user may: the file system decides that, and this says it in words.
func AcceptHead(configPath string, seq uint64, head key.Fingerprint, reason string) (hsm.Accepted, error) {
	cfg, err := config.Load(configPath)
	if err != nil {
		return hsm.Accepted{}, err
	}
	dir := cfg.HSM.StateDir
	info, err := os.Stat(dir)
	if err != nil {
		return hsm.Accepted{}, fmt.Errorf(
			"the HSM side's state directory: %w; run this as root, on the machine of the "+
				"HSM side",
			err,
		)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() != 0 && os.Geteuid() != int(owner.Uid) {
		return hsm.Accepted{}, fmt.Errorf(
			"%s belongs to uid %d, and this is uid %d: run this as root, on the machine of "+
				"the HSM side",
			dir,
			owner.Uid,
			os.Geteuid(),
		)
	}
	return hsm.AcceptHead(dir, seq, head, reason)
}
