package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// Reader reads an audit chain.
type Reader interface {
	Head(ctx context.Context) (seq uint64, hash chain.Hash, err error)
	Audit(ctx context.Context, from uint64, fn func(chain.Linked) error) error
}

// Chain is what this room needs from the store.
type Chain interface {
	Reader
	Append(ctx context.Context, entries ...chain.Entry) error
}

// Signer is the HSM side.
type Signer interface {
	AuditKey(ctx context.Context) (m key.Material, present bool, err error)
	MakeAuditKey(ctx context.Context) (key.Material, error)
	// Follow shows it links from the checkpoint that it signed last towards one that another HSM side signed since.
	Follow(ctx context.Context, x chain.Extension) error
	// SignCheckpoint signs the head to which x leads. missed: it signed nothing, because c, which it signed last, is
	// not the newest of the chain.
	SignCheckpoint(ctx context.Context, x chain.Extension) (c key.SignedCheckpoint, missed bool, err error)
}

// Config configures a Keeper.
type Config struct {
	Instance string
	Chain    Chain
	Signer   Signer
	Clock    func() time.Time
	Logger   *slog.Logger
	Metrics  *Metrics
	// Accepted ends what must not outlive a break that root accepted, such as consents that an old copy of the state
	// brought back. The chain gets the break only after it. It may be nil.
	Accepted func(ctx context.Context, why string) error
	// Hosts is nil if no other host has the token.
	Hosts *Hosts
}

// keyd is the actor of entries that nobody requested.
const keyd = "keyd"

const (
	// Every is the longest time between two checkpoints.
	Every = 24 * time.Hour
	// tick is how often the keeper reads the chain to see whether a checkpoint is due.
	tick = time.Minute
	// markTimeout is how long an import waits for its checkpoint.
	markTimeout = 15 * time.Second
	// The pause after a failure starts at firstPause and doubles with each further
	// failure up to lastPause.
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
)

// Keeper gets the chain's head signed: before each import, after each rotation, and at
// least daily. It derives its state from the chain, so a restart misses nothing.
type Keeper struct {
	Config
	wake chan struct{} // of capacity 1
	last atomic.Pointer[known]
	// broken says why the chain is not the one that the HSM side signed; nil if nothing shows that.
	broken atomic.Pointer[string]

	turn     chan struct{} // of capacity 1: one checkpoint at a time; guards what follows
	seen     seen
	intent   chain.Hash // of the last intent to make an audit key that this process wrote
	compared bool       // the HSM side has judged this chain since this process began
	failures int
	again    time.Time // no retry before this time, after a failure
}

// known is the newest checkpoint as readers see it without waiting for a turn.
type known struct {
	at   time.Time // when it was signed; without a checkpoint, when the chain began
	mark string    // "": there is none
}

// seen is what the keeper last read from the chain.
type seen struct {
	next   uint64     // the first entry that was not read
	end    chain.Hash // of the last entry that was
	began  time.Time  // the chain's first entry
	last   signed     // the newest checkpoint; its Seq is 0 when there is none
	line   lineage    // of the checkpoints
	wrong  string     // with that line; "" if nothing is
	key    key.Fingerprint
	making making
	ended  bool // a rotation ended, or a key was held, since the newest checkpoint
}

// NewKeeper returns a Keeper.
func NewKeeper(c Config) *Keeper {
	return &Keeper{Config: c, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), seen: nothing()}
}

// nothing is what a keeper saw that has read nothing yet.
func nothing() seen { return seen{line: lineage{known: true}} }

// take waits for the turn to read and sign; give ends the turn. A turn may last as long
// as a call to the HSM.
func (k *Keeper) take(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another checkpoint is being signed: %w", ctx.Err())
	}
}

func (k *Keeper) give() { <-k.turn }

// Poke makes Run read the chain now.
func (k *Keeper) Poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run signs what is due until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		_ = k.CatchUp(ctx) // CatchUp logged and counted the error; Run tries again
		pause := time.NewTimer(k.pause(ctx))
		select {
		case <-ctx.Done():
		case <-k.wake:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// pause is the time until the chain is read again.
func (k *Keeper) pause(ctx context.Context) time.Duration {
	if k.take(ctx) != nil {
		return tick
	}
	defer k.give()
	if k.failures == 0 {
		return tick
	}
	return max(k.again.Sub(k.Clock()), firstPause)
}

// CatchUp signs a checkpoint if one is due: a rotation ended or a key was held since
// the newest one, or a day has passed. The first time it signs one in any case: so a
// chain that was changed while no keyd ran is found out at the next start.
func (k *Keeper) CatchUp(ctx context.Context) error {
	if err := k.take(ctx); err != nil {
		return err
	}
	defer k.give()
	if err := k.read(ctx); err != nil {
		return k.ended(ctx, err)
	}
	now := k.Clock()
	if now.Before(k.again) {
		return nil
	}
	if !k.seen.due(now) && (k.compared || k.seen.last.Seq == 0) {
		return k.ended(ctx, nil)
	}
	_, err := k.sign(ctx, keyd)
	return err
}

func (s seen) due(now time.Time) bool {
	since := s.signedAt()
	// A checkpoint from the future was signed before the clock was set back.
	return !since.IsZero() && (s.ended || now.Sub(since).Abs() >= Every)
}

// Checkpoint signs one now, for the actor.
func (k *Keeper) Checkpoint(ctx context.Context, actor string) (key.Checkpoint, error) {
	if err := k.take(ctx); err != nil {
		return key.Checkpoint{}, err
	}
	defer k.give()
	if err := k.read(ctx); err != nil {
		return key.Checkpoint{}, err
	}
	return k.sign(ctx, actor)
}

// Mark signs a checkpoint for an import and returns its mark. The import must not wait
// for a failed signature: Mark then returns the mark of the newest checkpoint, or "" if
// there is none.
func (k *Keeper) Mark(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, markTimeout)
	defer cancel()
	if k.take(ctx) == nil {
		if err := k.read(ctx); err == nil && !k.Clock().Before(k.again) {
			_, _ = k.sign(ctx, keyd) // CatchUp logged and counted the error; Run tries again
		}
		k.give()
	}
	if last := k.last.Load(); last != nil {
		return last.mark
	}
	return ""
}

// Last returns when the newest checkpoint was signed, as last read from the chain.
// Without a checkpoint it returns when the chain began. It does not wait for a
// signature.
func (k *Keeper) Last() time.Time {
	if last := k.last.Load(); last != nil {
		return last.at
	}
	return time.Time{}
}

// read reads the entries that are new in the chain. The caller has the turn, as for all
// methods below. A store for several hosts may have lost entries that were read; then all of the chain is new.
func (k *Keeper) read(ctx context.Context) error {
	same, err := k.readOn(ctx)
	if err == nil && !same {
		k.seen, k.compared = nothing(), false
		_, err = k.readOn(ctx)
	}
	if err != nil {
		return fmt.Errorf("read the audit chain: %w", err)
	}
	last := known{at: k.seen.signedAt()}
	if k.seen.last.Seq != 0 {
		last.mark = k.seen.last.Mark()
	}
	k.last.Store(&last)
	k.Metrics.read(last.at, k.seen.last.Seq)
	if k.seen.wrong != "" && k.Broken() == "" {
		k.judge(nil)
	}
	return nil
}

// readOn reads on after the last entry that was read. same: the chain still has that one.
func (k *Keeper) readOn(ctx context.Context) (same bool, err error) {
	next := k.seen.next
	same = next == 0
	err = k.Chain.Audit(ctx, max(next, 1)-1, func(c chain.Linked) error {
		if !same {
			if same = c.Seq == next-1 && c.Hash == k.seen.end; !same {
				return errEnough
			}
			return nil
		}
		k.seen.take(c)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return same, err
}

// signedAt returns when the newest checkpoint was signed; without one, when the chain
// began.
func (s seen) signedAt() time.Time {
	if s.last.Seq == 0 {
		return s.began
	}
	return s.last.Time
}

func (s *seen) take(c chain.Linked) {
	s.next, s.end = c.Seq+1, c.Hash
	if c.Seq == 1 {
		s.began = c.Time
	}
	switch c.Event {
	case chain.RotationFinished, chain.KeyHeld:
		s.ended = true
	case chain.CheckpointSigned, chain.BreakAccepted:
		s.checkpoint(c)
	case chain.AuditKeyIntended:
		s.making = intended(c)
	case chain.AuditKeyMade, chain.AuditKeyFound:
		s.making, s.key = making{}, key.Fingerprint(c.Fields["audit_key"])
	}
}

// sign gets the head signed and writes the signature into the chain and the journal.
func (k *Keeper) sign(ctx context.Context, actor string) (key.Checkpoint, error) {
	c, err := k.trySign(ctx, actor)
	k.judge(err)
	k.compared = k.compared || err == nil
	if k.ended(ctx, err) != nil {
		return c, err
	}
	k.Logger.InfoContext(
		ctx,
		"checkpoint of the audit chain",
		"CHECKPOINT",
		c.Mark(),
		"audit_key",
		string(k.seen.key),
	)
	return c, k.read(ctx)
}

// ended counts and logs a failure, or resets the count after a success, and returns
// err.
func (k *Keeper) ended(ctx context.Context, err error) error {
	switch {
	case err == nil:
		k.failures, k.again = 0, time.Time{}
	case !key.IsCancelled(err): // otherwise keyd is stopping
		k.failures++
		k.again = k.Clock().Add(min(lastPause, firstPause<<min(k.failures-1, 20)))
		k.Metrics.failed()
		k.Logger.WarnContext(ctx, "cannot sign the audit chain's head; keyd tries again", "error", err.Error(),
			"failures", k.failures)
	}
	return err
}

// note appends one entry of this package.
func (k *Keeper) note(ctx context.Context, actor string, event chain.Event, fields map[string]string) error {
	killpoint.At("save-before " + string(event))
	err := k.Chain.Append(ctx, chain.Entry{Time: k.Clock(), Event: event, Actor: actor, Fields: fields})
	if err != nil {
		return fmt.Errorf("record %q: %w", event, err)
	}
	killpoint.At("save-after " + string(event))
	return k.read(ctx)
}
