package daemon

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/store/bolt"
)

// forAPerson makes a mistake in the configuration of an error that comes from who owns what a field names, or from its
// mode. No restart heals that, so systemd must not start keyd again for ever. It returns every other error as it is.
func forAPerson(cfg *config.Config, field string, err error) error {
	var changeable *ownership.Error
	var access *bolt.AccessError
	if !errors.Is(err, fs.ErrPermission) && !errors.As(err, &changeable) && !errors.As(err, &access) {
		return err
	}
	return config.Problems{cfg.Mistake(field, "", "%s: %v", field, err)}
}

// hsmState refuses a state directory of the HSM side that another user could change, or that this process cannot use.
func (s *starting) hsmState() {
	const field = "hsm.state_dir"
	dir := s.cfg.HSM.StateDir
	err := ownership.CheckPath(dir)
	if e := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err == nil && errors.Is(e, fs.ErrPermission) {
		err = &fs.PathError{Op: "use", Path: dir, Err: e}
	}
	s.addAll(forAPerson(s.cfg, field, ownership.Explain(err, dir)))
}
