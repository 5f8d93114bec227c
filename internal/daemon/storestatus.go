package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// StoreStatus is what a store shows of itself, without a daemon.
type StoreStatus struct {
	Kind     string          `json:"kind"` // file, postgres or etcd
	Store    string          `json:"store"`
	Instance string          `json:"instance"`
	Entries  uint64          `json:"entries"` // of the audit chain
	Head     string          `json:"head"`
	Records  int             `json:"records"`
	Sealed   string          `json:"sealed,omitempty"` // why it takes no changes any more
	Halt     *shared.Halt    `json:"halt,omitempty"`   // why a host stopped all of them
	Copying  bool            `json:"copying"`          // a copy into it is not whole
	Leader   *StoreLeader    `json:"leader,omitempty"` // nil: nobody leads
	Hosts    []leader.Report `json:"hosts"`            // what each host published of itself last
	Room     string          `json:"room,omitempty"`   // how many keys × years fit, in words
	Warnings []string        `json:"warnings"`

	keys int
}

// StoreLeader is who leads.
type StoreLeader struct {
	Host  string    `json:"host"`
	Epoch string    `json:"epoch"`
	Since time.Time `json:"since"` // by the engine's clock
	Left  int64     `json:"lease_left_seconds"`
}

// Faults says what keeps keyd from working on the store, a line each.
func (s StoreStatus) Faults() (lines []string) {
	if s.Sealed != "" {
		lines = append(lines, "it takes no changes any more: "+s.Sealed)
	}
	if s.Copying {
		lines = append(lines, "a copy into it is not whole: run the same keyd store copy again")
	}
	if s.Halt != nil {
		lines = append(lines, (&shared.HaltedError{Halt: *s.Halt}).Error())
	}
	return lines
}

// ReadStore looks at the store that a configuration names. It changes nothing, and needs no daemon.
func ReadStore(ctx context.Context, configPath string) (s StoreStatus, err error) {
	cfg, err := config.Load(configPath)
	if err != nil {
		return s, err
	}
	s = StoreStatus{Kind: cfg.Store.Kind(), Store: storeName(cfg), Instance: cfg.Instance}
	if !cfg.Store.Shared() {
		return s, s.readFile(ctx, cfg)
	}
	e, err := openEngine(ctx, cfg)
	if err != nil {
		return s, err
	}
	if err = checkInstance(ctx, e, cfg.Instance); err == nil {
		err = s.readEngine(ctx, e)
	}
	return s, errors.Join(err, e.Close())
}

// readFile reads the state of one host. While a daemon has it open, keyd status shows more.
func (s *StoreStatus) readFile(ctx context.Context, cfg *config.Config) error {
	f, err := bolt.OpenReadOnly(stateFile(cfg.StateDir))
	var locked *bolt.LockedError
	if errors.As(err, &locked) {
		host, _ := os.Hostname() // "" says as little
		s.Leader = &StoreLeader{Host: host}
		return nil
	}
	if err != nil {
		return err
	}
	heads, tip, err := f.Heads(ctx)
	s.Entries, s.Head, s.Records = tip.Seq, tip.Hash.String(), len(heads)
	s.Sealed, _ = f.Sealed(ctx) // Heads has the error
	return errors.Join(err, f.Close())
}

// readEngine asks one thing after the other: where the engine does not answer, one error says so.
func (s *StoreStatus) readEngine(ctx context.Context, e stored.Engine) error {
	for _, ask := range []func(context.Context, stored.Engine) error{
		s.readChain, s.readLeader, s.readStops, s.readHosts, s.readWarnings, s.readRoom,
	} {
		if err := ask(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *StoreStatus) readChain(ctx context.Context, e stored.Engine) error {
	heads, tip, err := e.Heads(ctx)
	s.Entries, s.Records = tip.Seq, len(heads)
	for name := range heads {
		if stored.IsKey(name) {
			s.keys++
		}
	}
	if tip.Hash != (chain.Hash{}) {
		s.Head = tip.Hash.String()
	}
	return err
}

func (s *StoreStatus) readLeader(ctx context.Context, e stored.Engine) error {
	l, err := e.Lease(ctx)
	if l.Left > 0 {
		s.Leader = &StoreLeader{
			Host:  l.Holder,
			Epoch: l.Epoch.String(),
			Since: l.Since,
			Left:  int64(l.Left.Seconds()),
		}
	}
	return err
}

// readStops reads what keeps keyd from working on the store.
func (s *StoreStatus) readStops(ctx context.Context, e stored.Engine) (err error) {
	if s.Sealed, err = e.Sealed(ctx); err != nil {
		return err
	}
	if s.Halt, err = shared.HaltOf(ctx, e); err != nil {
		return err
	}
	mark, err := e.Blob(ctx, copyingBlob)
	s.Copying = len(mark) > 0
	return err
}

func (s *StoreStatus) readWarnings(ctx context.Context, e stored.Engine) (err error) {
	s.Warnings, err = e.Warnings(ctx)
	return err
}

// roomy is an engine that knows how much it holds.
type roomy interface {
	Room(ctx context.Context, entriesPerKeyAndYear int64) (string, error)
}

// readRoom says how much fits, if the keys go on as they did. It takes a week of the chain to tell.
func (s *StoreStatus) readRoom(ctx context.Context, e stored.Engine) error {
	r, ok := e.(roomy)
	first, err := e.Entries(ctx, 1, 1)
	if !ok || err != nil || len(first) == 0 || s.keys == 0 {
		return err
	}
	const week, year = 7 * 24 * time.Hour, 365 * 24 * time.Hour
	age := time.Since(first[0].Time)
	if age < week {
		return nil
	}
	perYear := float64(s.Entries) / float64(s.keys) * float64(year) / float64(age)
	s.Room, err = r.Room(ctx, int64(perYear)+1)
	return err
}

// readHosts reads what the hosts published of themselves.
func (s *StoreStatus) readHosts(ctx context.Context, e stored.Engine) error {
	const reports = shared.StatusPrefix + leader.Prefix
	names, err := e.Blobs(ctx, reports)
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := e.Blob(ctx, name)
		if err != nil {
			return err
		}
		h := leader.Report{Host: strings.TrimPrefix(name, reports)}
		if err := json.Unmarshal(text, &h); err != nil {
			h.Trouble = "what it published cannot be read: " + err.Error()
		}
		s.Hosts = append(s.Hosts, h)
	}
	return nil
}
