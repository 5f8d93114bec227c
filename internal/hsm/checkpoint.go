package hsm

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// SignCheckpoint signs the head to which x leads, and nothing else: it builds the message here, by this side's clock. A
// head is signed only if x leads to it from the checkpoint that this side signed last, and this side remembers each
// before it hands it out. So nobody who may write the chain can have another past signed. Where another HSM side has
// signed since, x may begin at its checkpoint once Follow has shown the way there.
//
// missed: the newest checkpoint of the caller's chain is not the one that was signed last, and c is that one. Another
// HSM side may have signed since: then Follow comes first. Or its record was lost in a crash. If the chain does not
// even have the entry that it covers, the chain was put back, cut off or rewritten.
func (e *engine) SignCheckpoint(ctx context.Context, x chain.Extension) (
	c key.SignedCheckpoint, missed bool, err error,
) {
	if _, err := e.ready(ctx); err != nil {
		return c, false, err
	}
	e.heads.mu.Lock()
	defer e.heads.mu.Unlock()
	note, err := e.heads.load()
	if err != nil {
		return c, false, refused(Internal, "nothing is signed: %w", err)
	}
	accepted, err := e.heads.accepted()
	switch {
	case err != nil:
		return c, false, refused(Internal, "nothing is signed: %w", err)
	case accepted != nil:
		c, err = e.signBreak(ctx, note, *accepted)
		return c, true, err
	case note.Last != nil && !note.begins(x) && !e.heads.leadsTo(*note.Last, x.Since):
		return *note.Last, true, nil
	}
	c, err = e.sign(ctx, func(signer key.Material) (key.Checkpoint, error) { return note.next(x, signer) })
	return c, false, err
}

// begins reports whether x begins at the checkpoint that was signed last.
func (n headNote) begins(x chain.Extension) bool {
	return x.Since != nil && x.Since.Digest() == n.Last.Digest()
}

// next is the checkpoint that continues what was signed last. If x begins at another one, this side remembers none or
// was shown the way there, and the audit key itself must vouch for that one.
func (n headNote) next(x chain.Extension, signer key.Material) (c key.Checkpoint, err error) {
	last := n.Last
	switch {
	case x.Since == nil || last != nil && n.begins(x):
	case x.Since.Verify(signer):
		last = x.Since
	case last != nil:
		return c, refused(ChainBroken, "the newest checkpoint in the audit chain, %s, is not by this audit key. See "+
			"the runbook, #keydauditbroken", x.Since.Mark())
	}
	from, base, previous := uint64(0), chain.Hash{}, key.Fingerprint("")
	switch {
	case last != nil:
		from, previous = last.Seq, last.Digest()
		if err := base.UnmarshalText([]byte(last.Head)); err != nil {
			return c, refused(BadRequest, "the head that was signed last: %w", err)
		}
	case !n.Begun || x.Since != nil:
		return c, refused(ChainBroken, "the HSM side does not remember which head of the audit chain it signed last, "+
			"and the chain shows it no checkpoint by this audit key. Was the HSM side's state directory lost, or the "+
			"chain rewritten? See the runbook, #keydauditbroken. If you know why, on the HSM side's machine, as "+
			"root: %s", AcceptCommand(x.Seq, x.Head))
	}
	if !x.Leads(from, base) {
		return c, notLed(from, x)
	}
	return key.Checkpoint{Seq: x.Seq, Head: key.Fingerprint(x.Head.String()), Previous: previous}, nil
}

// signBreak signs that the chain does not continue what was signed last, as root has accepted it.
func (e *engine) signBreak(ctx context.Context, note headNote, a acceptance) (key.SignedCheckpoint, error) {
	c := key.Checkpoint{Seq: a.Seq, Head: a.Head, Break: &key.Break{Reason: a.Reason}}
	if last := note.Last; last != nil {
		if b := last.Break; b != nil && last.Seq == a.Seq && last.Head == a.Head && b.Reason == a.Reason {
			return *last, e.heads.forgetAccepted() // a crash came between the two
		}
		c.Previous, c.Break.Seq, c.Break.Head = last.Digest(), last.Seq, last.Head
	}
	signed, err := e.sign(ctx, func(key.Material) (key.Checkpoint, error) { return c, nil })
	if err != nil {
		return signed, err
	}
	e.log.WarnContext(ctx, "the audit key signed that root accepted a break of the audit chain", "break",
		signed.BreakID(), "old", signed.Break.Seq, "new", signed.Mark(), "reason", a.Reason)
	return signed, e.heads.forgetAccepted()
}

// sign completes what build returns, has the token sign it, and remembers it before it returns it. The caller has
// heads.mu.
func (e *engine) sign(
	ctx context.Context, build func(signer key.Material) (key.Checkpoint, error),
) (key.SignedCheckpoint, error) {
	signed, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) (key.SignedCheckpoint, error) {
		if k, ok := e.audit.recall(); ok {
			signed, err := e.signWith(s, k, build)
			if !handleLost(err) && !IsCode(err, Internal) { // a module may give a handle to another object
				return signed, err
			}
			e.tok.reportMended("the handle of the audit key no longer shows it, and the key is looked up again", err)
		}
		k, err := e.findAuditKey(s)
		if err != nil {
			return key.SignedCheckpoint{}, err
		}
		return e.signWith(s, k, build)
	})
	if err == nil {
		err = e.heads.remember(signed)
	}
	if err != nil {
		return key.SignedCheckpoint{}, classify("sign a checkpoint", err, key.Retry)
	}
	return signed, nil
}

// signWith verifies the signature in Go, so keyd notices a token that signs wrongly at its first signature.
func (e *engine) signWith(
	s session, k auditKey, build func(signer key.Material) (key.Checkpoint, error),
) (signed key.SignedCheckpoint, err error) {
	if signed.Checkpoint, err = build(k.material); err != nil {
		return signed, err
	}
	signed.Instance, signed.Signer = e.cfg.Instance, k.material.Fingerprint()
	signed.Time = time.Now().UTC().Truncate(time.Second)
	if err := signed.Valid(); err != nil {
		return signed, refused(BadRequest, "not signed: %w", err)
	}
	signed.Signature, err = s.sign(k, signed.Message())
	return signed, err
}
