package shared

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// HeadMissing says that the store does not contain the last entry that this host saw in it: it lost changes, such as a
// pause or an approval, which leave no trace elsewhere.
type HeadMissing struct {
	Engine  string
	Seen    stored.Tip // by this host
	Found   stored.Tip // the end of the store's chain now
	Another bool       // even the first entry is another one
}

func (e *HeadMissing) Error() string {
	what := "it lost changes: perhaps a standby without the last ones was promoted, or an older copy was put back"
	if e.Another {
		what = "it is another store, or a new one"
	}
	return fmt.Sprintf("%s does not contain entry %d (%s), which this host saw; it ends with entry %d (%s): %s. "+
		"keyd changes nothing on any host; proofs and pages go on. Bring the store back that has this entry. Only if "+
		"it is gone for good, on each host: keyd store accept --reason …", e.Engine, e.Seen.Seq, e.Seen.Hash,
		e.Found.Seq, e.Found.Hash, what)
}

// Class is Refused: only a person can tell.
func (e *HeadMissing) Class() key.Class { return key.Refused }

// Unwritable says that to try again at once is no use.
func (e *HeadMissing) Unwritable() bool { return true }

// HeadMissing tells it apart from other refusals.
func (e *HeadMissing) HeadMissing() bool { return true }

// HaltedError says that another host of the instance stopped all of them.
type HaltedError struct {
	Engine string
	Halt   Halt
}

// Halt is why one host stopped the whole instance.
type Halt struct {
	Host string    `json:"host"`
	At   time.Time `json:"at"` // by that host's clock
	Why  string    `json:"why"`
}

func (e *HaltedError) Error() string {
	at := e.Halt.At.Format(time.RFC3339)
	return fmt.Sprintf("host %s stopped keyd on every host at %s: %s", e.Halt.Host, at, e.Halt.Why)
}

// Class is Refused: only a person can tell.
func (e *HaltedError) Class() key.Class { return key.Refused }

// Unwritable says that to try again at once is no use.
func (e *HaltedError) Unwritable() bool { return true }

// HeadMissing says that a host misses an entry, if not this one.
func (e *HaltedError) HeadMissing() bool { return true }

// haltBlob stops the whole instance. What is under haltsBlob says of each host that it misses an entry.
const (
	haltBlob  = "halt"
	haltsBlob = haltBlob + "/"
)

// look finds out whether the store contains the last entry that this host saw. It is called with the lock of what is
// known held.
func (s *Store) look(ctx context.Context) error {
	kept, err := s.keeps(ctx)
	if err == nil {
		s.looked(ctx, kept)
	}
	return err
}

// keeps reports whether the store contains the last entry that this host saw.
func (s *Store) keeps(ctx context.Context) (bool, error) {
	seen := s.known.seen
	if seen.Seq == 0 {
		return true, nil
	}
	hash, err := s.hashAt(ctx, seen.Seq)
	return hash == seen.Hash, err
}

// looked acts on what a look found.
func (s *Store) looked(ctx context.Context, kept bool) {
	k := &s.known
	if !kept {
		missing := &HeadMissing{Engine: s.engine.Name(), Seen: k.seen.Tip, Found: k.tip,
			Another: k.first != k.seen.first}
		k.missing.Store(missing)
		_ = s.halt(ctx, missing) // or with the next look: reads go on
		return
	}
	k.missing.Store(nil)
	_ = k.see() // what cannot be remembered stops the next write
}

// halt stops the other hosts, too. It leaves an earlier halt as it is.
func (s *Store) halt(ctx context.Context, why error) error {
	text, err := json.Marshal(Halt{Host: s.host, At: s.now().UTC(), Why: why.Error()})
	if err != nil {
		return err
	}
	for _, name := range []string{haltsBlob + s.host, haltBlob} {
		had, err := s.engine.Blob(ctx, name)
		if err == nil && had == nil {
			err = s.engine.PutBlob(ctx, stored.Blob{Name: name, Value: text})
		}
		if err != nil && !errors.Is(err, stored.ErrSealed) { // it takes no changes in any case
			return err
		}
	}
	return nil
}

// endHalt ends what this host stopped the instance for. What another host did so for stands, until that one accepts
// it. A host that misses nothing speaks for all: the others may be gone for good.
func (s *Store) endHalt(ctx context.Context, missed bool) error {
	halts, err := s.engine.Blobs(ctx, haltsBlob)
	if err != nil {
		return err
	}
	own, left := haltsBlob+s.host, []byte(nil)
	if missed || slices.Contains(halts, own) {
		others := slices.DeleteFunc(slices.Clone(halts), func(name string) bool { return name == own })
		if len(others) > 0 {
			if left, err = s.engine.Blob(ctx, others[0]); err != nil {
				return err
			}
		}
		halts = []string{own}
	}
	err = s.engine.PutBlob(ctx, stored.Blob{Name: haltBlob, Value: left})
	for _, name := range halts {
		if err == nil {
			err = s.engine.PutBlob(ctx, stored.Blob{Name: name})
		}
	}
	return err
}

// writable says why this host must not change the store now; nil if it may.
func (s *Store) writable(ctx context.Context) error {
	if err := s.known.lock(ctx); err != nil {
		return err
	}
	missing, unsaved := s.known.missing.Load(), s.known.see() // once more, if the last time failed
	s.known.unlock()
	switch {
	case missing != nil:
		return missing
	case unsaved != nil:
		return &stored.EngineError{Engine: "the state directory " + s.dir,
			Doing: "remember the last entry that this host saw in the store", Err: unsaved}
	}
	h, err := s.Halted(ctx)
	if err == nil && h != nil {
		err = &HaltedError{Engine: s.engine.Name(), Halt: *h}
	}
	return err
}

// Halted is why one host stopped the whole instance; nil if none did.
func (s *Store) Halted(ctx context.Context) (*Halt, error) { return HaltOf(ctx, s.engine) }

// HaltOf is Halted for whoever has the engine alone.
func HaltOf(ctx context.Context, engine stored.Engine) (*Halt, error) {
	text, err := engine.Blob(ctx, haltBlob)
	if err != nil || text == nil {
		return nil, err
	}
	var h Halt
	if err := json.Unmarshal(text, &h); err != nil {
		h = Halt{Host: "unknown", Why: fmt.Sprintf("the reason cannot be read: %v", err)}
	}
	return &h, nil
}

// Missing says that the store does not contain the last entry that this host saw; nil if it does.
func (s *Store) Missing(ctx context.Context) (*HeadMissing, error) {
	if err := s.known.lock(ctx); err != nil {
		return nil, err
	}
	defer s.known.unlock()
	err := s.followLocked(ctx)
	return s.known.missing.Load(), err
}

// Accept has this host go on with the store as it is, although it lacks what the host saw, and ends the halt of the
// instance, unless another host misses an entry: that one must accept, too. The audit entry comes first: what is
// forgotten then stands in it.
func (s *Store) Accept(ctx context.Context, actor, reason string) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	s.known.lockAnyway()
	defer s.known.unlock()
	k := &s.known
	if err := s.followLocked(ctx); err != nil {
		return err
	}
	fields := map[string]string{"reason": reason, "host": s.host}
	missed := k.missing.Load() != nil
	if missed {
		fields["seen"], fields["seen hash"] = strconv.FormatUint(k.seen.Seq, 10), k.seen.Hash.String()
	}
	if err := s.noteAccepted(ctx, reason); err != nil {
		return fmt.Errorf("note that the store is accepted as it is: %w; try again", err)
	}
	l, err := chain.Append(k.tip.Seq, k.tip.Hash, chain.Entry{Time: s.now(), Event: chain.StoreAccepted, Actor: actor,
		Fields: fields}, "")
	if err != nil {
		return err
	}
	if err := s.engine.Commit(ctx, stored.Change{Tip: k.tip, Entries: []chain.Linked{l}}); err != nil {
		return fmt.Errorf("record that the store is accepted as it is: %w; try again", err)
	}
	if err := k.apply(l); err != nil {
		return err
	}
	k.missing.Store(nil)
	if err := k.seen.put(k.tip, k.first); err != nil {
		return fmt.Errorf("forget what this host saw of the store: %w; try again", err)
	}
	return s.endHalt(ctx, missed)
}

// AcceptedLedger is the ledger that says why the store was accepted, until a leader has ended what may not stand any
// more.
const AcceptedLedger = "store accepted"

// noteAccepted leaves the next leader to deal with it, before it does anything.
func (s *Store) noteAccepted(ctx context.Context, reason string) error {
	value, err := stored.EncodeLedger(AcceptedLedger, []byte(reason))
	if err != nil {
		return err
	}
	return putLedger(ctx, AcceptedLedger, value, s.engine.Blob, func(ctx context.Context, name string, v []byte) error {
		return s.engine.PutBlob(ctx, stored.Blob{Name: name, Value: v})
	})
}
