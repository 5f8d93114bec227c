// Package term is the time of one leader: which daemon of an instance acts, and until when an effect that it recorded
// may still go out. Its rule: the lease is for liveness only; the epoch in every save and the deadline of every effect
// are for safety.
package term

import (
	"context"
	"encoding/hex"
	"fmt"
)

// Epoch names one term of one leader. The number only grows, as long as the store loses nothing. The nonce is random,
// because a standby that missed a commit and was promoted uses numbers again.
type Epoch struct {
	Number uint64
	Nonce  [16]byte
}

// String is the epoch as NUMBER-NONCE, the nonce as 32 hexadecimal digits.
func (e Epoch) String() string { return fmt.Sprintf("%d-%s", e.Number, hex.EncodeToString(e.Nonce[:])) }

// IsZero reports whether there was no leader yet.
func (e Epoch) IsZero() bool { return e == Epoch{} }

type epochKey struct{}

// With has what is done under ctx count only under this epoch: a store takes the leader's writes only while it is in
// force. Without an epoch in its context a write is anybody's, and goes by the record's revision alone.
func With(ctx context.Context, e Epoch) context.Context { return context.WithValue(ctx, epochKey{}, e) }

// Of is the epoch under which something is done.
func Of(ctx context.Context) (e Epoch, ok bool) {
	e, ok = ctx.Value(epochKey{}).(Epoch)
	return e, ok
}
