package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// openShared opens the store for several hosts of a daemon.
func openShared(ctx context.Context, cfg *config.Config, reg prometheus.Registerer) (*shared.Store, error) {
	if err := errors.Join(privateDir(cfg.StateDir), bolt.CheckLeft(cfg.StateDir)); err != nil {
		return nil, err
	}
	e, err := openOwn(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s, err := shared.Open(ctx, e, shared.Options{Dir: cfg.StateDir, Host: cfg.Host, Now: time.Now, Registerer: reg})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return s, nil
}

// privateDir makes the directory of what this host must remember, or refuses one that others can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ownership.Explain(fmt.Errorf("make the state directory: %w", err), dir)
	}
	if err := ownership.CheckPath(dir); err != nil {
		return fmt.Errorf("the state directory cannot be trusted: %w", ownership.Explain(err, dir))
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = &bolt.AccessError{
			Err: fmt.Errorf("the state directory %s has mode %04o, so others can enter it: chmod "+
				"0700 %s", dir, info.Mode().Perm(), dir),
		}
	}
	return err
}

// readShared opens a store for several hosts to read it, which verifies all of it. What this host saw of it does not
// count here. done closes it, and the engine.
func readShared(ctx context.Context, e stored.Engine) (s *shared.Store, done func() error, err error) {
	dir, err := os.MkdirTemp("", "keyd-store-*")
	if err != nil {
		return nil, nil, err
	}
	s, err = shared.Open(ctx, e, shared.Options{Dir: dir, Host: "reader", Now: time.Now,
		CallTime: time.Minute})
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, func() error { return errors.Join(s.Close(), os.RemoveAll(dir)) }, nil
}

// refuseLostStore refuses to begin a state on a host that had its state in a store for several hosts.
func refuseLostStore(dir string) error {
	seen := filepath.Join(dir, shared.SeenFile)
	switch _, err := os.Stat(seen); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if _, err := os.Stat(stateFile(dir)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf(
		"this host has no state of its own, and %s shows that it had one in a store for several hosts: put "+
			"store: back into the configuration; or move the state here: keyd store copy --from OLD.yaml --to "+
			"NEW.yaml; or "+
			"remove that file, if keyd shall begin anew here",
		seen,
	)
}
