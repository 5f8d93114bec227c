package shared

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// Options are what a store needs besides its engine.
type Options struct {
	Dir        string // state directory of this host
	Host       string // its name
	Now        func() time.Time
	Registerer prometheus.Registerer // nil: no metrics
	CallTime   time.Duration         // bounds one call of the engine, and with its tries a write thrice that; 0: 5 s
	// Flush has what was written to a file in Dir outlive a crash of the host; nil: fdatasync(2).
	Flush func(*os.File) error
	// Pause waits, or until its context ends; nil: by the host's clock.
	Pause func(context.Context, time.Duration)
}

// Store is the state of an instance with several hosts. Any goroutine may call its methods.
type Store struct {
	engine  limited
	dir     string
	host    string
	now     func() time.Time
	pause   func(context.Context, time.Duration)
	metrics *stored.Metrics

	records  *stored.Kept[record.Record]
	vaults   *stored.Kept[record.Vault] // by URL
	settings *stored.Kept[record.Settings]

	known   known
	waiting waiting
	writing chan struct{} // holds one while this host writes

	mu       sync.Mutex // guards the fields below
	closed   bool
	lastFail error
}

// Open opens a store, whose engine it closes in the end. It verifies all of it, so that a host that begins to lead has
// done so already. A store that lacks what this host saw is opened all the same, for reading: Missing says so.
//
// Errors: *DamagedError; *stored.EngineError if the engine cannot be reached.
func Open(ctx context.Context, engine stored.Engine, o Options) (*Store, error) {
	s, err := open(ctx, engine, o)
	if err != nil {
		return nil, err
	}
	report, err := s.Verify(ctx)
	if err == nil && !report.Consistent() {
		err = s.damaged("%s", report)
	}
	if err != nil {
		return nil, errors.Join(err, s.known.seen.close())
	}
	s.metrics.Opened(s.known.tip.Seq)
	return s, nil
}

func open(ctx context.Context, engine stored.Engine, o Options) (*Store, error) {
	s := &Store{engine: limited{engine, cmp.Or(o.CallTime, callTime)}, dir: o.Dir, host: o.Host, now: o.Now,
		pause:   o.Pause,
		records: stored.NewKept(record.Record.Clone), vaults: stored.NewKept(record.Vault.Clone),
		settings: stored.NewKept(record.Settings.Clone), writing: make(chan struct{}, 1),
		known:   known{busy: make(chan struct{}, 1)},
		metrics: stored.NewMetrics(o.Registerer)}
	var err error
	if s.known.seen, err = openSeen(o.Dir); err != nil {
		return nil, err
	}
	if o.Flush != nil {
		s.known.seen.flush = o.Flush
	}
	if s.pause == nil {
		s.pause = pause
	}
	s.known.lockAnyway()
	defer s.known.unlock()
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.known.seen.close())
	}
	return s, nil
}

// Healthy returns nil, or why the last write failed, or why none is possible. It asks nobody.
func (s *Store) Healthy() error {
	if missing := s.known.missing.Load(); missing != nil {
		return missing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastFail
}

// Warnings says what an operator should see to on the engine.
func (s *Store) Warnings(ctx context.Context) ([]string, error) { return s.engine.Warnings(ctx) }

// Close waits for a running write and closes the engine. A second call does nothing.
func (s *Store) Close() error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	s.known.lockAnyway()
	defer s.known.unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.engine.Close(), s.known.seen.close())
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// DamagedError says that the engine does not hold what keyd wrote into it.
type DamagedError struct {
	Engine string
	What   string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the state in %s is damaged: %s. keyd changed nothing. Stop keyd on every host, keep the "+
		"store aside, and put the last file of `keyd backup` in its place with `keyd store copy`", e.Engine, e.What)
}

// Class is Refused.
func (e *DamagedError) Class() key.Class { return key.Refused }

// Unwritable says that to try again at once is no use.
func (e *DamagedError) Unwritable() bool { return true }

// SealedError says that the store was moved elsewhere.
type SealedError struct {
	Engine string
	Err    error
}

func (e *SealedError) Error() string {
	return fmt.Sprintf("%s: %v: configure this host for the place that it was moved to", e.Engine, e.Err)
}

func (e *SealedError) Unwrap() error { return e.Err }

// Class is Refused.
func (e *SealedError) Class() key.Class { return key.Refused }

// Unwritable says that to try again at once is no use.
func (e *SealedError) Unwritable() bool { return true }

func (s *Store) damaged(format string, args ...any) error {
	return &DamagedError{Engine: s.engine.Name(), What: fmt.Sprintf(format, args...)}
}
