package leader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// Leases is what an Elector needs of the store.
type Leases interface {
	// Lease is who leads, as it is now.
	Lease(ctx context.Context) (stored.Lease, error)
	// Take makes a host the leader, if the lease is over or the host's own. Errors: stored.ErrHeld.
	Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error)
	// Renew prolongs a lease. Errors: stored.ErrEpoch when another epoch is in force, or the lease is over.
	Renew(ctx context.Context, e term.Epoch, ttl time.Duration) (stored.Lease, error)
	// Release ends a lease, so that another host may take it at once.
	Release(ctx context.Context, e term.Epoch) error
}

// Config is what an Elector works with.
type Config struct {
	Store Leases
	Host  string        // this host's name
	TTL   time.Duration // of a lease
	// Boot is a clock that only goes forward and also counts while the host is suspended: CLOCK_BOOTTIME.
	Boot   func() time.Duration
	After  func(time.Duration) <-chan time.Time // nil: time.After
	Random io.Reader                            // of nonces
	// May reports whether this host may take the lease, which has been over for so long; nil: it may.
	May     func(over time.Duration) bool
	Changed func() // called after the state has changed; it must not block, and may be nil
	Logger  *slog.Logger
}

// Elector takes the lease of an instance when it is over, and keeps it. Any goroutine may call it.
type Elector struct {
	Config
	nonces map[[16]byte]bool // of this process; only Run uses it
	looked bool              // at the lease

	mu     sync.Mutex
	state  State
	reign  *reign // nil: this host does not lead
	overAt time.Duration
	over   bool // the lease is, since overAt
}

// State is what an Elector knows of the lease.
type State struct {
	Lease stored.Lease  // as last read
	Read  time.Duration // by Boot, when that was asked for; 0: never
	Leads bool          // this host does, as far as it knows
	Until time.Duration // by Boot, when its term could be over
	Err   error         // why this host cannot tell who leads, or cannot lead although nobody does; nil: it can
}

// Alone reports whether no other host can ever lead: the store belongs to this process.
func (s State) Alone() bool { return endless(s.Lease) }

// Known reports whether the lease was read at least once.
func (s State) Known() bool { return s.Read != 0 }

// New returns an Elector. It asks nothing before Run.
func New(c Config) *Elector {
	if c.After == nil {
		c.After = time.After
	}
	if c.May == nil {
		c.May = func(time.Duration) bool { return true }
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Elector{Config: c, nonces: map[[16]byte]bool{}}
}

// State returns what is known of the lease now.
func (e *Elector) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state
}

// Run leads whenever it can. It calls lead once for each term, with a context that carries the term's epoch and that
// ends when the term could be over. It follows again when lead has returned. Run returns when ctx ends, or with the
// error of a lead that ended by itself; then another host may lead at once.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context) error) error {
	for {
		r, err := e.follow(ctx)
		if err != nil {
			return err
		}
		if err, over := e.serve(ctx, r, lead); !over {
			return err
		}
	}
}

// follow returns once this host has taken the lease.
func (e *Elector) follow(ctx context.Context) (*reign, error) {
	for {
		l, err := e.look(ctx)
		switch {
		case err != nil:
		case e.mayTake(l):
			if r := e.take(ctx); r != nil {
				return r, nil
			}
		default:
			e.succeed()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-e.After(e.pause(l, err)):
		}
	}
}

// look reads the lease.
func (e *Elector) look(ctx context.Context) (stored.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, e.patience())
	defer cancel()
	at := e.Boot()
	l, err := e.Store.Lease(ctx)
	if err == nil {
		err = e.recognise(l)
	}
	e.note(at, l, err)
	return l, err
}

// recognise refuses a lease that another daemon holds under this host's name. The first one that is seen is from before
// a restart.
func (e *Elector) recognise(l stored.Lease) error {
	if !e.looked {
		e.looked = true
		e.nonces[l.Epoch.Nonce] = true
	}
	if l.Holder == e.Host && l.Left > 0 && !e.nonces[l.Epoch.Nonce] {
		return &SameNameError{e.Host}
	}
	return nil
}

// mayTake reports whether this host may try to take the lease: its own at once.
func (e *Elector) mayTake(l stored.Lease) bool {
	return l.Holder == e.Host && l.Left > 0 || l.Left <= 0 && e.May(e.overFor())
}

// take takes the lease; nil: another host was faster, or the store did not answer.
func (e *Elector) take(ctx context.Context) *reign {
	var nonce [16]byte
	if _, err := io.ReadFull(e.Random, nonce[:]); err != nil {
		e.fail(fmt.Errorf("make an epoch: %w", err))
		return nil
	}
	e.nonces[nonce] = true
	asking, cancel := context.WithTimeout(ctx, e.patience())
	defer cancel()
	at := e.Boot()
	l, err := e.Store.Take(asking, e.Host, nonce, e.TTL)
	if err != nil {
		held := errors.Is(err, stored.ErrHeld)
		if class := key.ClassOf(err); held || class == key.Retry || class == key.Refused {
			delete(e.nonces, nonce) // a host that may not lead tries for as long as that lasts
		}
		if !held && ctx.Err() == nil {
			e.fail(fmt.Errorf("this host cannot lead: %w", err))
		}
		return nil
	}
	e.note(at, l, nil)
	e.succeed()
	return e.begin(at, l)
}

// pause is the time until the lease is read again.
func (e *Elector) pause(l stored.Lease, err error) time.Duration {
	poll := min(time.Second, e.TTL/5)
	if err == nil && l.Left > 0 {
		poll = min(poll, l.Left)
	}
	return poll + e.jitter(poll/4)
}

// patience bounds one question to the store.
func (e *Elector) patience() time.Duration { return max(e.TTL/3, time.Second) }

// jitter is a random time below limit. Hosts that ask at different moments do not race each other.
func (e *Elector) jitter(limit time.Duration) time.Duration {
	var b [1]byte
	_, _ = io.ReadFull(e.Random, b[:]) // no jitter is no harm
	return limit * time.Duration(b[0]) / 256
}

// note keeps what the store said of the lease, asked at that time.
func (e *Elector) note(at time.Duration, l stored.Lease, err error) {
	if err != nil {
		e.fail(err)
		return
	}
	e.mu.Lock()
	was := e.state
	e.state.Lease, e.state.Read = l, max(at, 1)
	if over := l.Left <= 0; over != e.over {
		e.over, e.overAt = over, at
	}
	e.mu.Unlock()
	if !was.Known() || was.Lease.Epoch != l.Epoch || (was.Lease.Left > 0) != (l.Left > 0) {
		e.Changed()
	}
}

// succeed notes that nothing is in the way any more.
func (e *Elector) succeed() {
	e.mu.Lock()
	was := e.state.Err
	e.state.Err = nil
	e.mu.Unlock()
	if was != nil {
		e.Logger.Info("this host can tell again who leads", "before", was.Error())
		e.Changed()
	}
}

// fail keeps why it is not known who leads, or why this host cannot lead.
func (e *Elector) fail(err error) {
	e.mu.Lock()
	first := e.state.Err == nil
	e.state.Err = err
	e.mu.Unlock()
	if first {
		e.Logger.Warn("this host cannot tell who leads, or cannot lead itself; it tries again", "error", err.Error())
		e.Changed()
	}
}

// overFor is how long the lease has been over, as far as this host saw.
func (e *Elector) overFor() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		return 0
	}
	return e.Boot() - e.overAt
}

// Prove has the store renew the lease of the term of ctx: only what also takes changes proves that this host may act. A
// store that lost changes, and with them perhaps the very intent of an effect, still tells who leads. Errors:
// *OverError, which ends the term, or that of the store.
func (e *Elector) Prove(ctx context.Context) error {
	mine, ok := term.Of(ctx)
	if !ok {
		return &OverError{Err: stored.ErrEpoch}
	}
	_, err := e.Store.Renew(ctx, mine, e.TTL)
	switch {
	case errors.Is(err, stored.ErrEpoch):
		over := &OverError{Epoch: mine, Err: stored.ErrEpoch}
		e.end(mine, over)
		return over
	case err != nil:
		return fmt.Errorf("it is not known whether this host may still act: %w", err)
	}
	return nil
}

// Refused ends the term of ctx if err says that the store refused its epoch. It returns err.
func (e *Elector) Refused(ctx context.Context, err error) error {
	if mine, ok := term.Of(ctx); ok && errors.Is(err, stored.ErrEpoch) {
		e.end(mine, err)
	}
	return err
}

// Resign ends this host's term, so that another may lead as soon as what is under way has ended.
func (e *Elector) Resign(why string) {
	e.mu.Lock()
	r := e.reign
	e.mu.Unlock()
	if r != nil && r.resign(fmt.Errorf("this host hands over: %s", why)) {
		e.Logger.Warn("this host hands over", "why", why)
	}
}

// end ends the term of an epoch, if it is the present one: it is lost.
func (e *Elector) end(epoch term.Epoch, why error) {
	e.mu.Lock()
	r := e.reign
	e.mu.Unlock()
	if r != nil && r.epoch == epoch {
		r.lose(why)
	}
}

// OverError says that a term is over: this host does not lead any more.
type OverError struct {
	Epoch term.Epoch
	Err   error
}

func (e *OverError) Error() string {
	return fmt.Sprintf("this host does not lead: %v; the leader goes on with it", cmp.Or(e.Err, stored.ErrEpoch))
}

func (e *OverError) Unwrap() error { return e.Err }

// SameNameError says that another daemon leads under this host's name.
type SameNameError struct{ Host string }

func (e *SameNameError) Error() string {
	return fmt.Sprintf("another daemon leads as host %q: give each host its own name (host: in the configuration)",
		e.Host)
}
