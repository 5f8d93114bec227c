package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/vault"
)

const (
	// logDelay is how late a row may come, by Microsoft's word up to 10 minutes, and a margin.
	logDelay = 15 * time.Minute
	// logEvery is the time between two readings by Evidence itself.
	logEvery = time.Hour
	// logFresh is how old a reading may be that answers Logs.
	logFresh = 5 * time.Minute
	// leastReview is the least time that keyd asks for again before a disabling: what counts where a rule says nothing.
	leastReview = 30 * 24 * time.Hour
	// logAgain is how long after a reading that failed keyd does not ask the same workspace again.
	logAgain = time.Minute
)

// Ledgers keeps what keyd saw of consumers and of logs; a store does. LoadLedger returns nil for nothing.
type Ledgers interface {
	LoadLedger(ctx context.Context, name string) ([]byte, error)
	SaveLedger(ctx context.Context, name string, blob []byte) error
}

// EvidenceConfig is what Evidence needs.
type EvidenceConfig struct {
	Client  func() *LogClient // of the present configuration
	Ledgers Ledgers
	Keys    func() []key.Policy // all of the present configuration
	Clock   func() time.Time    // nil: time.Now
	Logger  *slog.Logger        // nil: none
}

// Evidence knows from vaults' audit logs who used which version of a key, and from when to when it may say so. It
// reads every workspace once an hour, for all vaults and keys together, and keeps what it saw in a ledger, because a
// workspace may keep its log for less time than a retire rule asks for.
//
// A log is trusted only where it had every call of keyd's own: those are its heartbeat. An interval without calls of
// keyd's is not seen.
type Evidence struct {
	cfg EvidenceConfig
	own *ownCalls

	mu     sync.Mutex
	vaults map[string]*vaultLog   // by URL
	asking map[string]*sync.Mutex // by workspace: one reading at a time
}

// vaultLog is what Evidence knows of one vault. Evidence.mu guards it.
type vaultLog struct {
	ledger *ledger
	me     map[string]bool // the object ids under which this process called the vault
	err    error           // of the last reading
	tried  time.Time       // when that was
	review review
}

// NewEvidence makes an Evidence. It reads nothing yet.
func NewEvidence(cfg EvidenceConfig) *Evidence {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Evidence{cfg: cfg, own: newOwnCalls(), vaults: map[string]*vaultLog{}, asking: map[string]*sync.Mutex{}}
	e.workspaces()
	return e
}

// Called hears of keyd's own calls; it is what vault.Config.Calls takes.
func (e *Evidence) Called(vaultURL string, c vault.OwnCall) { e.own.add(vaultURL, c) }

// Run reads every workspace once an hour until ctx ends, for the first time when the first calls of this process can be
// in the logs. At the end it saves which calls it still expects there.
func (e *Evidence) Run(ctx context.Context) error {
	wait := time.NewTimer(logDelay + 2*key.MaxSkew)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			e.keepCalls(context.WithoutCancel(ctx))
			return nil
		case <-wait.C:
		}
		for workspace := range e.workspaces() {
			e.read(ctx, workspace, e.cfg.Clock(), 0)
		}
		wait.Reset(logEvery)
	}
}

// Logs returns what the log of each vault of a key shows, by the vault's URL, of every vault with a workspace. First it
// reads what is new, unless it did so within the last minutes. If the key's retire rule goes by the log, it also asks
// the workspace again for all the time that the rule goes by, unless it did so within the last hour.
func (e *Evidence) Logs(ctx context.Context, p key.Policy, now time.Time) map[string]record.LogSeen {
	var back time.Duration
	if !p.Retire.Never() {
		back = min(max(p.Retire.UnusedFor, p.Retire.Backups, leastReview), logKept)
	}
	seen := map[string]record.LogSeen{}
	for url, workspace := range p.Workspaces {
		if v, ok := p.Vault(url); ok {
			e.readIfOld(ctx, v, workspace, now, back)
			seen[url] = e.askedAgain(e.seen(p.Key, v, workspace), v, now, back)
		}
	}
	return seen
}

// askedAgain is what was seen, with an error if keyd did not ask the workspace again for all the time that it must.
func (e *Evidence) askedAgain(s record.LogSeen, v key.Vault, now time.Time, back time.Duration) record.LogSeen {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := e.vaults[v.URL]; s.Err == nil && back > 0 && (k == nil || !k.review.covers(now, back)) {
		s.Err = fmt.Errorf("the log of the vault %s: keyd was cut short when it asked the workspace again for the "+
			"last %d days; it asks again by itself", v.Name, back/(24*time.Hour))
	}
	return s
}

// Last returns the same by what keyd read last. It asks nobody.
func (e *Evidence) Last(p key.Policy) map[string]record.LogSeen {
	seen := map[string]record.LogSeen{}
	for url, workspace := range p.Workspaces {
		if v, ok := p.Vault(url); ok {
			seen[url] = e.seen(p.Key, v, workspace)
		}
	}
	return seen
}

func (e *Evidence) readIfOld(ctx context.Context, v key.Vault, workspace string, now time.Time, back time.Duration) {
	if v.Kind == key.ManagedHSM {
		return
	}
	lock := e.lockOf(workspace)
	lock.Lock()
	defer lock.Unlock()
	e.mu.Lock()
	known := e.vaults[v.URL]
	fresh := known != nil && known.fresh(now, back)
	e.mu.Unlock()
	if !fresh {
		e.readLocked(ctx, workspace, now, back)
	}
}

// fresh reports whether another reading would hardly show more.
func (k *vaultLog) fresh(now time.Time, back time.Duration) bool {
	age := now.Sub(k.tried)
	switch {
	case age < 0: // the clock was put back
		return false
	case errors.Is(k.err, errNoOwnCall): // nobody was asked
		return false
	case k.err != nil:
		return age < logAgain
	}
	return age < logFresh && (back == 0 || k.review.covers(now, back))
}

// read reads what is new in a workspace, and with back everything since then, again.
func (e *Evidence) read(ctx context.Context, workspace string, now time.Time, back time.Duration) {
	lock := e.lockOf(workspace)
	lock.Lock()
	defer lock.Unlock()
	e.readLocked(ctx, workspace, now, back)
}

func (e *Evidence) lockOf(workspace string) *sync.Mutex {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asking[workspace] == nil {
		e.asking[workspace] = &sync.Mutex{}
	}
	return e.asking[workspace]
}

// workspaces has, by workspace, the vaults whose logs it holds, with the names of their keys.
func (e *Evidence) workspaces() map[string]map[string][]string {
	all := map[string]map[string][]string{}
	var watched []string
	for _, p := range e.cfg.Keys() {
		for url, workspace := range p.Workspaces {
			v, ok := p.Vault(url)
			if !ok || v.Kind == key.ManagedHSM {
				continue
			}
			if all[workspace] == nil {
				all[workspace] = map[string][]string{}
			}
			all[workspace][url] = append(all[workspace][url], p.Key)
			watched = append(watched, url)
		}
	}
	slices.Sort(watched)
	e.own.watch(slices.Compact(watched))
	return all
}

// seen is what keyd knows of one key by the log of one vault.
func (e *Evidence) seen(name string, v key.Vault, workspace string) record.LogSeen {
	if v.Kind == key.ManagedHSM {
		return record.LogSeen{Err: fmt.Errorf("the log of the Managed HSM %s: keyd reads the audit logs of Key Vaults "+
			"only; take the workspace out of evidence: for this vault", v.Name)}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k := e.vaults[v.URL]
	if k == nil || k.ledger == nil || k.ledger.Workspace != workspace {
		err := fmt.Errorf("the log of the vault %s: keyd has not read it yet", v.Name)
		if k != nil && k.err != nil {
			err = fmt.Errorf("the log of the vault %s: %w", v.Name, k.err)
		}
		return record.LogSeen{Err: err}
	}
	return k.seen(name, v)
}
