package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/shared"
)

// AcceptStore has this host go on with a store that lacks what the host saw in it. The audit chain keeps that, with the
// reason and with what is missing.
func (d *Daemon) AcceptStore(ctx context.Context, actor, reason string) error {
	if d.shared == nil {
		return notShared()
	}
	if err := accept(ctx, d.shared, actor, reason); err != nil {
		return err
	}
	d.log.Warn("root has accepted the store as it is", "reason", reason)
	d.touch()
	return nil
}

// AcceptStopped is AcceptStore on a host where no daemon runs. Only root and the daemon's own user may.
func AcceptStopped(ctx context.Context, configPath, reason string) (err error) {
	if err := key.ValidReason(reason); err != nil {
		return err
	}
	cfg, err := config.Load(configPath)
	if err != nil {
		return err
	}
	if !cfg.Store.Shared() {
		return notShared()
	}
	if uid := uint32(os.Geteuid()); uid != serviceUID(cfg) && uid != 0 {
		return &control.RefusedError{Text: "run this as root: only root accepts a store that lost changes"}
	}
	e, err := openOwn(ctx, cfg)
	if err != nil {
		return err
	}
	s, err := shared.Open(ctx, e, shared.Options{Dir: cfg.StateDir, Host: cfg.Host, Now: time.Now})
	if err != nil {
		return errors.Join(err, e.Close())
	}
	return errors.Join(accept(ctx, s, fmt.Sprintf("uid %d on %s", os.Geteuid(), cfg.Host), reason), s.Close())
}

func notShared() error {
	return &control.RefusedError{
		Text: "the state is a file of one host, so there is no store to accept. After a backup " +
			"was put back, see keyd hsm accept-head",
	}
}

func accept(ctx context.Context, s *shared.Store, actor, reason string) error {
	missing, err := s.Missing(ctx)
	if err != nil {
		return err
	}
	halted, err := s.Halted(ctx)
	if err != nil {
		return err
	}
	if missing == nil && halted == nil {
		return &control.RefusedError{
			Text: "there is nothing to accept: the store has all that this host saw, and no host " +
				"has stopped the others",
		}
	}
	return s.Accept(ctx, actor, reason)
}
