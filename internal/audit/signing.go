package audit

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// BrokenError says that the chain does not continue what the audit key signed last.
type BrokenError struct {
	Signed key.Checkpoint // what the audit key signed
	Found  string         // what the chain has instead
	accept string         // the command that accepts it
}

func (e *BrokenError) Error() string {
	return fmt.Sprintf("the audit chain is not the one that the audit key signed: it signed %s at %s, and %s. The "+
		"state was put back, cut off or rewritten: see the runbook, #keydauditbroken. If you know who did it and why, "+
		"on the HSM side's machine, as root: %s", e.Signed.Mark(), e.Signed.Time.UTC().Format("2006-01-02 15:04:05Z"),
		e.Found, e.accept)
}

// Broken says why the chain is not the one that the audit key signed; "" if nothing shows that.
func (k *Keeper) Broken() string {
	if why := k.broken.Load(); why != nil {
		return *why
	}
	return ""
}

// judge keeps what the last try to sign, and the line of checkpoints, say of the chain. An error for another reason
// says nothing of it. The caller has the turn.
func (k *Keeper) judge(err error) {
	var broken *BrokenError
	why := k.Broken()
	switch {
	case errors.As(err, &broken), hsm.IsCode(err, hsm.ChainBroken):
		why = err.Error()
	case err == nil:
		why = k.seen.wrong
	}
	k.Metrics.broken(why != "")
	k.broken.Store(&why)
}

// checkpoint takes a checkpoint of the chain.
func (s *seen) checkpoint(c chain.Linked) {
	cp, ok, err := parseSigned(c.Entry)
	if !ok || err != nil {
		return
	}
	problem := s.line.next(cp)
	switch {
	case cp.Break != nil:
		s.wrong = "" // root knows of what was wrong before
	case problem != "" && s.wrong == "":
		s.wrong = fmt.Sprintf("the checkpoint in entry %d of the audit chain is out of line: %s. See the runbook, "+
			"#keydauditbroken", c.Seq, problem)
	}
	s.last, s.ended = cp, false
}

// trySign gets the chain signed up to its head as it is now. A chain that is far ahead of its newest checkpoint takes
// several.
func (k *Keeper) trySign(ctx context.Context, actor string) (key.Checkpoint, error) {
	if _, err := k.auditKey(ctx); err != nil {
		return key.Checkpoint{}, err
	}
	head, _, err := k.Chain.Head(ctx)
	if err != nil {
		return key.Checkpoint{}, fmt.Errorf("read the audit chain's head: %w", err)
	}
	for recorded, followed := false, false; ; {
		x, err := k.extension(ctx)
		if err != nil {
			return key.Checkpoint{}, err
		}
		killpoint.At("sign-before")
		c, missed, err := k.Signer.SignCheckpoint(ctx, x)
		if err != nil {
			return key.Checkpoint{}, fmt.Errorf("sign a checkpoint: %w", err)
		}
		killpoint.At("sign-after")
		if missed {
			err = k.missed(ctx, c.Checkpoint, recorded)
		}
		if err != nil {
			return key.Checkpoint{}, err
		}
		if missed && !followed && k.signedSince(c.Checkpoint) {
			if err := k.follow(ctx, c.Checkpoint); err != nil {
				return key.Checkpoint{}, err
			}
			followed = true
			continue
		}
		recorded = recorded || missed
		s := newSigned(c)
		if err := k.accepted(ctx, s); err != nil {
			return key.Checkpoint{}, err
		}
		if err := k.note(ctx, actor, s.event(), s.fields()); err != nil {
			return key.Checkpoint{}, err
		}
		if !missed && c.Seq >= head {
			return c.Checkpoint, nil
		}
	}
}

// accepted tells of a break that root accepted, before the chain gets it: a crash in between repeats both.
func (k *Keeper) accepted(ctx context.Context, s signed) error {
	if s.Break == nil || k.Accepted == nil {
		return nil
	}
	why := fmt.Sprintf("root accepted another past of the state, as break %s: %s", s.BreakID(), s.Break.Reason)
	if err := k.Accepted(ctx, why); err != nil {
		return fmt.Errorf("end what must not outlive the accepted break %s of the audit chain: %w", s.BreakID(), err)
	}
	return nil
}

// missed returns an error unless the chain has the entry that c covers: then only the record of its signature was lost,
// in a crash, or root accepted the chain.
func (k *Keeper) missed(ctx context.Context, c key.Checkpoint, again bool) error {
	seq, head, err := k.Chain.Head(ctx)
	if err != nil {
		return fmt.Errorf("read the audit chain's head: %w", err)
	}
	found := fmt.Sprintf("the chain ends with entry %d", seq)
	if c.Seq <= seq {
		hash, err := k.hashOf(ctx, c.Seq)
		switch {
		case err != nil:
			return err
		case hash.String() == string(c.Head) && !again:
			return nil
		}
		found = fmt.Sprintf("entry %d of the chain is %s", c.Seq, hash)
		if again {
			found = "it signs another one for each that keyd records"
		}
	}
	return &BrokenError{Signed: c, Found: found, accept: hsm.AcceptCommand(seq, head)}
}

var errEnough = errors.New("enough of the chain is read")

func (k *Keeper) hashOf(ctx context.Context, seq uint64) (hash chain.Hash, err error) {
	err = k.Chain.Audit(ctx, seq, func(c chain.Linked) error {
		hash = c.Hash
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return hash, fmt.Errorf("read the audit chain: %w", err)
	}
	return hash, nil
}

// signedSince reports whether the newest checkpoint in the chain is one that another HSM side signed after c.
func (k *Keeper) signedSince(c key.Checkpoint) bool {
	last := k.seen.last
	return last.Seq >= c.Seq && last.Digest() != c.Digest()
}

// follow shows the HSM side, page by page, that the chain leads from c, which it signed last, to the newest checkpoint.
func (k *Keeper) follow(ctx context.Context, c key.Checkpoint) error {
	for at := c.Seq; at < k.seen.last.Seq; {
		x, err := k.links(ctx, at+1, k.seen.last.Seq)
		if err != nil {
			return err
		}
		if err := k.Signer.Follow(ctx, x); err != nil {
			return fmt.Errorf("show the HSM side the audit chain from entry %d on: %w", at+1, err)
		}
		at = x.Seq
	}
	return nil
}

// extension is the way from the newest checkpoint in the chain to its head, or as much of it as one may have.
func (k *Keeper) extension(ctx context.Context) (x chain.Extension, err error) {
	from := uint64(1)
	if last := k.seen.last; last.Seq != 0 {
		x.Since, from = &last.SignedCheckpoint, last.Seq+1
		hash, err := k.hashOf(ctx, last.Seq)
		if err != nil {
			return x, err
		}
		if hash.String() != string(last.Head) {
			seq, head, err := k.Chain.Head(ctx)
			return x, errors.Join(err, &BrokenError{Signed: last.Checkpoint, accept: hsm.AcceptCommand(seq, head),
				Found: fmt.Sprintf("entry %d of the chain is %s", last.Seq, hash)})
		}
	}
	since := x.Since
	x, err = k.links(ctx, from, math.MaxUint64)
	x.Since = since
	return x, err
}

// links are the entries between two, both included, or as many of them as one request may have.
func (k *Keeper) links(ctx context.Context, from, to uint64) (x chain.Extension, err error) {
	err = k.Chain.Audit(ctx, from, func(c chain.Linked) error {
		if len(x.Stubs) == chain.MaxStubs || c.Seq > to {
			return errEnough
		}
		x.Stubs = append(x.Stubs, c.Stub())
		x.Seq, x.Head = c.Seq, c.Hash
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return x, fmt.Errorf("read the audit chain: %w", err)
	}
	return x, nil
}
