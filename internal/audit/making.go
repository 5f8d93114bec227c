package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/term"
)

// An HSM side looks before it makes the audit key, and makes one at a time. That is enough on one host. Where several
// hosts share a token, each has an HSM side of its own: so the intent to make the key has a deadline, after which no
// HSM side begins, and another daemon than the one that wrote it waits until what was begun by then must show.

// Hosts is what a Keeper needs to know of other hosts with the same token.
type Hosts struct {
	Generate time.Duration // for so long an HSM side may take to make a pair
	Prove    func(ctx context.Context) error
}

// makeWithin is how long after its intent the making of the audit key may begin.
const makeWithin = time.Minute

// making is an audit key that is intended, and whose result is not recorded yet.
type making struct {
	intent chain.Hash // of the entry; zero: none is open
	until  time.Time  // it may begin until then
}

// auditKey makes the audit key if there is none. It records every audit key that is new
// to the chain, so that a replaced key is visible.
func (k *Keeper) auditKey(ctx context.Context) (key.Fingerprint, error) {
	looked := k.Clock()
	m, present, err := k.Signer.AuditKey(ctx)
	if err == nil && !present {
		m, err = k.makeAuditKey(ctx, looked)
	}
	if err != nil {
		return "", fmt.Errorf("the audit key: %w", err)
	}
	print := m.Fingerprint()
	if print == k.seen.key {
		return print, nil
	}
	fields := map[string]string{"audit_key": string(print), "public": string(EncodeKey(m))}
	if k.seen.key != "" {
		fields["before"] = string(k.seen.key)
		k.Logger.WarnContext(ctx, "the audit key has changed", "audit_key", string(print), "before",
			string(k.seen.key))
	}
	if present && k.seen.making.intent == (chain.Hash{}) {
		return print, k.note(ctx, keyd, chain.AuditKeyFound, fields)
	}
	return print, k.note(ctx, keyd, chain.AuditKeyMade, fields)
}

// makeAuditKey makes the audit key, which the token did not have when keyd looked.
func (k *Keeper) makeAuditKey(ctx context.Context, looked time.Time) (key.Material, error) {
	saved := term.Instant{}
	if open := k.seen.making; open.intent == (chain.Hash{}) || k.Hosts != nil && k.over(open, looked) {
		saved = k.instant()
		until := saved.Wall.Add(makeWithin)
		fields := map[string]string{"until": until.UTC().Format(time.RFC3339Nano)}
		if err := k.note(ctx, keyd, chain.AuditKeyIntended, fields); err != nil {
			return key.Material{}, err
		}
		k.intent = k.seen.making.intent
	} else if k.Hosts != nil && open.intent != k.intent {
		return key.Material{}, fmt.Errorf("another host, or this one before it was started again, began to make it: "+
			"keyd looks for it again until %s, and then makes it", k.settled(open).UTC().Format(time.RFC3339))
	}
	if k.Hosts != nil {
		now := k.instant()
		ctx = term.WithEffect(ctx, term.Effect{What: "the making of the audit key", Saved: saved,
			Deadline: now.Add(k.seen.making.until.Sub(now.Wall)), Prove: k.Hosts.Prove, Clock: k.instant})
	}
	killpoint.At("audit-key-before")
	m, err := k.Signer.MakeAuditKey(ctx)
	killpoint.At("audit-key-after")
	return m, err
}

func (k *Keeper) instant() term.Instant { return term.Instant{Wall: k.Clock(), Boot: term.Boottime()} }

// settled is when a key that was begun in time must show, by this host's clock, however the clocks differ.
func (k *Keeper) settled(open making) time.Time {
	return open.until.Add(k.Hosts.Generate + key.MaxSkew)
}

// over reports whether a look that began then would have shown the key of an intent.
func (k *Keeper) over(open making, looked time.Time) bool { return looked.After(k.settled(open)) }

// intended is the intent that an entry records. One without a deadline is of a keyd that knew none.
func intended(c chain.Linked) making {
	until, err := time.Parse(time.RFC3339Nano, c.Fields["until"])
	if err != nil {
		until = c.Time.Add(makeWithin)
	}
	return making{c.Hash, until}
}
