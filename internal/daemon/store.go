package daemon

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Store is what keyd needs from the store of records and their audit chain; internal/store/storetest is its contract.
type Store interface {
	rotate.Store // stores the records
	rotate.SettingsStore
	audit.Chain // reads the chain
	Revisions(ctx context.Context) (map[string]uint64, error)
	Recent(ctx context.Context, n int) ([]chain.Linked, error)
	Verify(ctx context.Context) (chain.Report, error)
	// LoadLedger returns what SaveLedger saved last under a name, nil for nothing: what keyd noted of the world
	// outside.
	LoadLedger(ctx context.Context, name string) ([]byte, error)
	SaveLedger(ctx context.Context, name string, blob []byte) error
	Backup(ctx context.Context, w io.Writer) error
	Healthy() error // of the last write
	Leadership
	Close() error
}

// Leadership is what a store does for the daemon that acts, and for those that wait. Whoever acts writes under the
// epoch that Take began (term.With). A store refuses such a write once another term has begun, with a
// *stored.EpochError. A write without an epoch is anybody's.
type Leadership interface {
	// Lease is who leads. It is for liveness only: another daemon may think that it leads, too.
	Lease(ctx context.Context) (stored.Lease, error)
	// Take begins a term of this host, if no other host has the lease. Errors: stored.ErrHeld.
	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	// Renew has the lease end after ttl from now. Errors: *stored.EpochError if it is over, or another one is in force.
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	// Release ends the lease, so that another host may lead at once.
	Release(ctx context.Context, e term.Epoch) error
	// PutStatus keeps what is shown of a daemon, outside the chain; an empty blob removes it. Status returns it, nil
	// for nothing, and Statuses lists the names with a prefix.
	PutStatus(ctx context.Context, name string, blob []byte) error
	Status(ctx context.Context, name string) ([]byte, error)
	Statuses(ctx context.Context, prefix string) ([]string, error)
}

// openStore opens the state of a daemon. It creates the file of one host if there is none.
func openStore(ctx context.Context, cfg *config.Config, reg prometheus.Registerer) (Store, error) {
	if !cfg.Store.Shared() {
		return openFile(cfg.StateDir, reg)
	}
	s, err := openShared(ctx, cfg, reg)
	if err != nil {
		return nil, err // s would be a nil pointer in an interface that is not nil
	}
	return s, nil
}

func openFile(dir string, reg prometheus.Registerer) (Store, error) {
	if err := ownership.CheckPath(stateFile(dir)); err != nil {
		if explained := ownership.Explain(err, dir); explained.Error() != err.Error() {
			return nil, explained
		}
		return nil, fmt.Errorf("the state cannot be trusted: %w", ownership.Explain(err, stateFile(dir)))
	}
	if err := refuseLostStore(dir); err != nil {
		return nil, err
	}
	s, err := bolt.Open(dir, time.Now, reg)
	if err != nil {
		return nil, err // s would be a nil pointer in an interface that is not nil
	}
	return s, nil
}

// openState opens the file of a state that no daemon has open, for reading only. Errors: those of bolt.OpenReadOnly,
// such as *bolt.LockedError while a daemon runs on it.
func openState(file string) (Store, error) {
	s, err := bolt.OpenReadOnly(file)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// stateFile is the file in a state directory.
func stateFile(dir string) string { return filepath.Join(dir, "keyd.db") }
