package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// longHistory is more revisions than etcd keeps where somebody compacts it.
const longHistory = 200_000

// Warnings says what an operator should see to now.
func (e *Engine) Warnings(ctx context.Context) ([]string, error) {
	members := e.members(ctx)
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.host, b.host) })
	var all []string
	if err := oneCluster(members); err != nil {
		all = append(all, "etcd: "+err.Error())
	}
	led := false
	for _, m := range members {
		all = append(all, e.ofMember(m)...)
		led = led || m.err == nil && m.status.Leader != 0
	}
	if !led {
		return all, nil // there is nobody to ask
	}
	asks := []func(context.Context) ([]string, error){e.alarms, e.uncompacted, e.rights}
	found := make([][]string, len(asks))
	var group errgroup.Group
	for i, ask := range asks {
		group.Go(func() (err error) {
			found[i], err = ask(ctx)
			return err
		})
	}
	if err := group.Wait(); err != nil && len(all) == 0 {
		return nil, err // otherwise what a member lacks is why there was no answer
	}
	return append(all, slices.Concat(found...)...), nil
}

// ofMember says what is wrong with one member.
func (e *Engine) ofMember(m member) (found []string) {
	add := func(format string, args ...any) {
		found = append(found, fmt.Sprintf("etcd member %s: ", m.host)+fmt.Sprintf(format, args...))
	}
	if m.err != nil {
		add("it does not answer: %v", m.err)
		return found
	}
	if err := tooOld(m.status.Version); err != nil {
		add("%v", err)
	}
	if m.status.Leader == 0 {
		add("it sees no leader: it does not reach most of the other members")
	}
	if m.status.IsLearner {
		add("it is a learner, which takes no writes: take it out of the endpoints until it is promoted")
	}
	if quota := e.quotaOf(m); m.status.DbSize*2 >= quota {
		add("its database has %d of %d MiB, of which %d are in use, and takes no more when it is full. Compact it "+
			"(--auto-compaction-retention) and defragment it (etcdctl defrag), or raise --quota-backend-bytes",
			m.status.DbSize>>20, quota>>20, m.status.DbSizeInUse>>20)
	}
	return found
}

// quotaOf is the size at which a member takes no more writes.
func (e *Engine) quotaOf(m member) int64 {
	if m.status.DbSizeQuota > 0 { // from etcd 3.6 on
		return m.status.DbSizeQuota
	}
	return e.cfg.Quota
}

// alarms says which alarms etcd itself has raised.
func (e *Engine) alarms(ctx context.Context) (found []string, err error) {
	var r *clientv3.AlarmResponse
	err = e.read(ctx, "list the alarms", func(ctx context.Context) error {
		r, err = e.client.AlarmList(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, a := range r.Alarms {
		text := "etcd member %x differs from the others (alarm CORRUPT): replace it, and run keyd audit --verify"
		if a.Alarm == pb.AlarmType_NOSPACE {
			text = "etcd member %x is full (alarm NOSPACE), and keyd cannot save anything. Compact and defragment " +
				"etcd, or raise its quota, and then: etcdctl alarm disarm"
		}
		found = append(found, fmt.Sprintf(text, a.MemberID))
	}
	return found, nil
}

// uncompacted says whether nobody compacts etcd: then it also keeps all that was ever overwritten, until it is full.
func (e *Engine) uncompacted(ctx context.Context) ([]string, error) {
	err := e.read(ctx, "read the history", func(ctx context.Context) error {
		now, err := e.client.Get(ctx, e.key("format"))
		if err != nil || now.Header.Revision <= e.history {
			return errors.Join(err, rpctypes.ErrCompacted)
		}
		_, err = e.client.Get(ctx, e.key("format"), clientv3.WithRev(now.Header.Revision-e.history))
		return err
	})
	switch {
	case errors.Is(err, rpctypes.ErrCompacted):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []string{fmt.Sprintf("etcd keeps a history of more than %d changes: nobody compacts it. Run its members "+
		"with --auto-compaction-retention=1h, or its database grows until it is full", e.history)}, nil
}

// rights says whether keyd could change who may do what in etcd. Then anybody can who reaches etcd, or keyd's user has
// more rights than it needs.
func (e *Engine) rights(ctx context.Context) ([]string, error) {
	if e.cfg.onLoopback() {
		return nil, nil
	}
	return e.listsUsers(ctx)
}

func (e *Engine) listsUsers(ctx context.Context) ([]string, error) {
	err := e.read(ctx, "list etcd's users", func(ctx context.Context) error {
		_, err := e.client.UserList(ctx)
		return err
	})
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return []string{"etcd's authentication is off, or keyd's user is its root: keyd needs readwrite on " +
		e.cfg.Prefix + " and no more. Make users for all who use etcd, and then: etcdctl auth enable"}, nil
}
