package shared

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// settleTries is how often a change whose answer was lost is looked for before its fate is left open.
const settleTries = 5

// commit makes a change and finds out whether it happened. Errors: package stored's refusals: it certainly did not;
// *UnsettledError: the engine does not say.
func (s *Store) commit(ctx context.Context, c stored.Change) error {
	err := s.engine.Commit(ctx, c)
	if inDoubt(err) {
		err = s.settle(ctx, c, err)
	}
	if err == nil {
		s.committed(c)
	}
	return err
}

// refusal reports whether the engine refused a change for what is in the store.
func refusal(err error) bool {
	return errors.Is(err, stored.ErrTip) || errors.Is(err, stored.ErrRecord) || errors.Is(err, stored.ErrEpoch) ||
		errors.Is(err, stored.ErrSealed)
}

// inDoubt reports whether a change may have happened although there is an error.
func inDoubt(err error) bool { return err != nil && !refusal(err) && key.ClassOf(err) == key.Ambiguous }

// settle finds out what became of a change whose answer was lost. It is in the chain if the entry with its number has
// its hash; another entry there is another host's, and then it cannot happen any more. As long as the chain ends where
// the change begins, it may still be under way. Then the very same change is made again: only one of the two can follow
// that end.
func (s *Store) settle(ctx context.Context, c stored.Change, lost error) error {
	last := c.Entries[len(c.Entries)-1]
	for try := range settleTries {
		if try > 0 {
			s.pause(ctx, time.Duration(try)*50*time.Millisecond)
		}
		hash, err := s.hashAt(ctx, last.Seq)
		if err != nil {
			lost = errors.Join(lost, err)
			continue
		}
		if hash == last.Hash {
			return nil
		}
		tip, err := s.engine.Tip(ctx)
		if err != nil {
			lost = errors.Join(lost, err)
			continue
		}
		if tip != c.Tip {
			return s.decided(ctx, c, stored.ErrTip)
		}
		err = s.engine.Commit(ctx, c)
		switch {
		case err == nil:
			return nil
		case refusal(err):
			return s.decided(ctx, c, err)
		}
	}
	return &UnsettledError{Engine: s.engine.Name(), Err: lost}
}

// decided looks for a change once more when the chain, or the term, has moved on: either the change was part of that,
// or it cannot happen any more.
func (s *Store) decided(ctx context.Context, c stored.Change, refusal error) error {
	last := c.Entries[len(c.Entries)-1]
	hash, err := s.hashAt(ctx, last.Seq)
	switch {
	case err != nil:
		return &UnsettledError{Engine: s.engine.Name(), Err: err}
	case hash == last.Hash:
		return nil
	}
	return refusal
}

// UnsettledError says that a change may have happened, and that the engine did not answer when it was looked for.
type UnsettledError struct {
	Engine string
	Err    error
}

func (e *UnsettledError) Error() string {
	return fmt.Sprintf("%s: whether a change was saved is not known, and is looked up before the next one: %v: look "+
		"at the health of the store and of the way to it", e.Engine, e.Err)
}

func (e *UnsettledError) Unwrap() error { return e.Err }

// Class is Ambiguous.
func (e *UnsettledError) Class() key.Class { return key.Ambiguous }

// Unwritable says that to try again at once is no use.
func (e *UnsettledError) Unwritable() bool { return true }
