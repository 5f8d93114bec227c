package hsm

import (
	"context"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// Where several hosts share one chain, each has its own HSM side, and another one may have signed meanwhile. Before
// this side signs again, it is shown every link from the checkpoint in its own memory to the newest one in the chain,
// page by page. So a store that colludes with the other host still cannot have this side sign another past.

// way leads from the checkpoint in this side's memory to an entry of the chain, by links that this process was shown.
type way struct {
	from key.Fingerprint // digest of that checkpoint
	seq  uint64          // the last entry
	hash chain.Hash
}

// Follow is shown the next page of links, and signs nothing. The first page begins right after the entry that the
// checkpoint in this side's memory covers.
func (e *engine) Follow(_ context.Context, x chain.Extension) error {
	e.heads.mu.Lock()
	defer e.heads.mu.Unlock()
	note, err := e.heads.load()
	if err != nil {
		return refused(Internal, "nothing is signed: %w", err)
	}
	if note.Last == nil {
		return refused(BadRequest, "the HSM side remembers no head of the audit chain: there is nothing to follow from")
	}
	return e.heads.follow(*note.Last, x)
}

// follow extends the way by a page. The caller has mu.
func (h *signedHeads) follow(last key.SignedCheckpoint, x chain.Extension) error {
	at, err := wayFrom(last)
	if err != nil {
		return err
	}
	if first := x.Seq - uint64(len(x.Stubs)); first != at.seq { // not the first page
		if h.shown.from != at.from || h.shown.seq != first {
			return newError(BadRequest, key.Retry, "the page of the audit chain does not begin where the HSM side is: "+
				"it begins anew after entry %d", at.seq)
		}
		at = h.shown
	}
	if !x.Leads(at.seq, at.hash) {
		return notLed(at.seq, x)
	}
	h.shown = way{at.from, x.Seq, x.Head}
	return nil
}

// wayFrom is the way that has no link yet.
func wayFrom(last key.SignedCheckpoint) (way, error) {
	at := way{from: last.Digest(), seq: last.Seq}
	if err := at.hash.UnmarshalText([]byte(last.Head)); err != nil {
		return at, refused(BadRequest, "the head that was signed last: %w", err)
	}
	return at, nil
}

// leadsTo reports whether this process was shown that a checkpoint continues the one in its memory. The caller has mu.
func (h *signedHeads) leadsTo(last key.SignedCheckpoint, newest *key.SignedCheckpoint) bool {
	if newest == nil {
		return false
	}
	same := newest.Seq == last.Seq && newest.Head == last.Head // both signed one head, and one was not recorded
	return same || h.shown.from == last.Digest() && h.shown.seq == newest.Seq &&
		key.Fingerprint(h.shown.hash.String()) == newest.Head
}

func notLed(from uint64, x chain.Extension) error {
	return refused(ChainBroken, "the audit chain does not lead from entry %d, which the audit key signed, to entry %d "+
		"(%s): entries were changed or removed. See the runbook, #keydauditbroken", from, x.Seq, x.Head)
}
