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
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/store/bolt"
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
	Close() error
}

// openStore opens the state of a daemon, and creates it if there is none.
func openStore(dir string, reg prometheus.Registerer) (Store, error) {
	if err := ownership.CheckPath(stateFile(dir)); err != nil {
		if explained := ownership.Explain(err, dir); explained.Error() != err.Error() {
			return nil, explained
		}
		return nil, fmt.Errorf("the state cannot be trusted: %w", ownership.Explain(err, stateFile(dir)))
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
