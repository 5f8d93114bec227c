package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/term"
)

// leader says who took the epoch in force.
type leader struct {
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"` // by the holder's clock
}

// hold is what the key of the lease has: it lives as long as a lease of etcd does.
type hold struct {
	epoch   term.Epoch
	id      clientv3.LeaseID
	seconds uint64 // that were asked for
}

func (h hold) encode() []byte {
	return bytes.Join([][]byte{encodeEpoch(h.epoch), stored.Number(uint64(h.id)), stored.Number(h.seconds)}, nil)
}

// leading is who leads, as it was at one moment.
type leading struct {
	epoch term.Epoch
	leader
	hold *hold // nil: the lease is over

	was found
}

var leadershipKeys = []string{"epoch", "leader", "lease"}

// leading reads who leads.
func (e *Engine) leading(ctx context.Context, doing string) (l leading, err error) {
	var ops []clientv3.Op
	for _, key := range append([]string{"sealed"}, leadershipKeys...) {
		ops = append(ops, e.get(key))
	}
	if l.was, err = e.look(ctx, doing, ops...); err != nil {
		return l, err
	}
	if l.epoch, err = parseEpoch(l.was.value("epoch")); err != nil {
		return l, e.failed(doing, err, false)
	}
	if text := l.was.value("leader"); text != nil {
		if err := json.Unmarshal(text, &l.leader); err != nil {
			return l, e.failed(doing, fmt.Errorf("who leads is damaged: %w", err), false)
		}
	}
	if value := l.was.value("lease"); len(value) == 40 {
		epoch, _ := parseEpoch(value[:24])
		l.hold = &hold{epoch: epoch, id: clientv3.LeaseID(binary.BigEndian.Uint64(value[24:])),
			seconds: binary.BigEndian.Uint64(value[32:])}
	}
	return l, nil
}

// lease is a lease with so much time left.
func (l leading) lease(left time.Duration) stored.Lease {
	now := time.Now()
	return stored.Lease{Epoch: l.epoch, Holder: l.Holder, Since: l.Since, Left: left, Now: now}
}

// same compares who leads by value.
func (e *Engine) same(l leading) (cmps []clientv3.Cmp) {
	for _, key := range leadershipKeys {
		cmps = append(cmps, e.is(key, l.was.value(key)))
	}
	return cmps
}

// Lease is who leads.
func (e *Engine) Lease(ctx context.Context) (stored.Lease, error) {
	const doing = "read who leads"
	l, err := e.leading(ctx, doing)
	if err != nil {
		return stored.Lease{}, err
	}
	left, err := e.left(ctx, l, doing)
	return l.lease(left), err
}

// left is how long the lease still holds. etcd tells whole seconds and drops the rest of one: that one counts as whole,
// so that nobody is told too early that a lease is over.
func (e *Engine) left(ctx context.Context, l leading, doing string) (left time.Duration, err error) {
	if l.hold == nil {
		return 0, nil
	}
	err = e.read(ctx, doing, func(ctx context.Context) error {
		r, err := e.client.TimeToLive(ctx, l.hold.id)
		if err == nil && r.TTL >= 0 {
			left = time.Duration(min(r.TTL+1, r.GrantedTTL)) * time.Second
		}
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return 0, nil
	}
	return left, err
}

// Take makes a host the leader under a new epoch, if the lease is over, was released or is the host's own.
func (e *Engine) Take(ctx context.Context, holder string, nonce [16]byte, ttl time.Duration) (stored.Lease, error) {
	const doing = "take the lease"
	l, err := e.leading(ctx, doing)
	if err != nil {
		return stored.Lease{}, err
	}
	if err := e.guardFailed(nil, l.was); err != nil {
		return stored.Lease{}, err
	}
	if l.Holder != holder {
		if left, err := e.left(ctx, l, doing); err != nil {
			return stored.Lease{}, err
		} else if left > 0 {
			return stored.Lease{}, e.held(l)
		}
	}
	next := leading{epoch: term.Epoch{Number: l.epoch.Number + 1, Nonce: nonce},
		leader: leader{Holder: holder, Since: time.Now().UTC()}}
	text, err := json.Marshal(next.leader)
	if err != nil {
		return stored.Lease{}, err
	}
	granted, err := e.grant(ctx, doing, next.epoch, ttl)
	if err != nil {
		return stored.Lease{}, err
	}
	c := e.guarded(change{doing: doing, key: "epoch", value: encodeEpoch(next.epoch)}, nil)
	c.when = append(c.when, e.same(l)...)
	c.then = []clientv3.Op{e.put("epoch", c.value), e.put("leader", text), e.putLease(granted)}
	refusal, err := e.try(ctx, c)
	switch {
	case err != nil:
		return stored.Lease{}, err // what was granted ends by itself
	case refusal == nil:
		return next.lease(granted.left), nil
	}
	e.revoke(ctx, granted.id)
	if err := e.guardFailed(nil, *refusal); err != nil {
		return stored.Lease{}, err
	}
	if l, err = e.leading(ctx, doing); err != nil {
		return stored.Lease{}, err
	}
	return stored.Lease{}, e.held(l)
}

func (e *Engine) held(l leading) error {
	return fmt.Errorf("%s: %w: %s, since %s", e.Name(), stored.ErrHeld, l.Holder, l.Since.Format(time.RFC3339))
}

// Renew has the lease of an epoch end after ttl from now.
func (e *Engine) Renew(ctx context.Context, epoch term.Epoch, ttl time.Duration) (stored.Lease, error) {
	const doing = "renew the lease"
	l, err := e.leading(ctx, doing)
	if err != nil {
		return stored.Lease{}, err
	}
	over := fmt.Errorf("%s: %w, or the lease is over", e.Name(), stored.ErrEpoch)
	if l.epoch != epoch || l.hold == nil || l.hold.epoch != epoch {
		return stored.Lease{}, over
	}
	if l.hold.seconds != seconds(ttl) {
		return e.replace(ctx, l, ttl)
	}
	left, err := e.keepAlive(ctx, l.hold.id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return stored.Lease{}, over
	}
	if err != nil {
		return stored.Lease{}, err
	}
	// A member that does not know yet that it leads etcd no more also says yes, of a lease that is gone.
	now, err := e.leading(ctx, doing)
	if err != nil {
		return stored.Lease{}, err
	}
	if !bytes.Equal(now.was.value("lease"), l.was.value("lease")) || now.epoch != epoch {
		return stored.Lease{}, over
	}
	return now.lease(left), nil
}

// replace puts another lease of etcd in the place of one that was asked for with another time.
func (e *Engine) replace(ctx context.Context, l leading, ttl time.Duration) (stored.Lease, error) {
	const doing = "renew the lease"
	granted, err := e.grant(ctx, doing, l.epoch, ttl)
	if err != nil {
		return stored.Lease{}, err
	}
	refusal, err := e.try(ctx, change{doing: doing, key: "lease", value: granted.encode(),
		when: e.same(l), then: []clientv3.Op{e.putLease(granted)}})
	switch {
	case err != nil:
		return stored.Lease{}, err
	case refusal != nil:
		e.revoke(ctx, granted.id)
		return stored.Lease{}, fmt.Errorf("%s: %w, or the lease is over", e.Name(), stored.ErrEpoch)
	}
	e.revoke(ctx, l.hold.id)
	return l.lease(granted.left), nil
}

// Release ends the lease of an epoch. The epoch stays in force until another host leads.
func (e *Engine) Release(ctx context.Context, epoch term.Epoch) error {
	const doing = "release the lease"
	l, err := e.leading(ctx, doing)
	if err != nil || l.hold == nil || l.hold.epoch != epoch {
		return err
	}
	err = e.write(ctx, doing, func(ctx context.Context) error {
		_, err := e.client.Revoke(ctx, l.hold.id)
		return err
	})
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}
