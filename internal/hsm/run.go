package hsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/ownership"
)

// Endpoint is where clients reach the HSM side.
type Endpoint struct {
	Listener net.Listener // of Listen or ChildListener
	UIDs     []int        // who may connect, besides root and the process's own uid
}

// Run is the HSM side. It opens the token, logs in once, tests the token, calls ready and answers requests. It
// returns nil when ctx ends or the parent closes its connection. When it cannot continue, it returns an error at
// once, and calls may still be inside the library: the caller must end the process with os.Exit, without waiting for
// anything.
func Run(ctx context.Context, cfg Config, permitted Permitted, at Endpoint, log *slog.Logger, ready func()) error {
	return runWith(ctx, cfg, permitted, at, loadModule, log, ready)
}

func runWith(
	ctx context.Context,
	cfg Config,
	permitted Permitted,
	at Endpoint,
	load func(string) (module, error),
	log *slog.Logger,
	ready func(),
) error {
	err := run(ctx, cfg, permitted, at, load, log, ready)
	if h, ok := at.Listener.(*handed); ok {
		if err != nil {
			h.say(err)
		}
		return err
	}
	return errors.Join(err, closed(at.Listener))
}

// closed closes l unless it is closed already.
func closed(l net.Listener) error {
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func run(
	ctx context.Context,
	cfg Config,
	permitted Permitted,
	at Endpoint,
	load func(string) (module, error),
	log *slog.Logger,
	ready func(),
) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	harden(log)
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("make the HSM side's state directory: %w", err)
	}
	if err := ownership.CheckPath(cfg.StateDir); err != nil {
		return fmt.Errorf("the HSM side's state cannot be trusted: %w", err)
	}
	mod, err := load(cfg.Module)
	if err != nil {
		return err
	}
	e, err := newEngine(ctx, mod, cfg, permitted, log)
	if err != nil {
		return err
	}
	ready()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-e.tok.life.Done():
			cancel(e.tok.reason())
		case <-ctx.Done():
		}
	}()
	s := &server{calls: e, permitted: permitted, log: log, uids: append([]int{0, os.Getuid()}, at.UIDs...)}
	err = s.serve(ctx, at.Listener)
	if e.tok.isDead() {
		return errors.Join(e.tok.reason(), err)
	}
	return err
}

// harden keeps the process's memory out of core dumps, debuggers and swap, as far as its permissions allow.
func harden(log *slog.Logger) {
	err := errors.Join(
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
	)
	if err != nil {
		log.Warn("cannot switch off core dumps of the HSM side", "error", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY {
		return // with a limit, locking would make later allocations fail
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		log.Warn("cannot lock the HSM side's memory", "error", err)
	}
}
