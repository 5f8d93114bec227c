package etcd

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/keyd-project/keyd/internal/term"
)

// granted is a lease of etcd's, and the time that it has.
type granted struct {
	hold
	left time.Duration
}

// seconds is a time as etcd counts them: whole seconds, and never less than was asked for.
func seconds(ttl time.Duration) uint64 { return uint64(max(1, (ttl+time.Second-1)/time.Second)) }

// grant has etcd make a lease.
func (e *Engine) grant(ctx context.Context, doing string, epoch term.Epoch, ttl time.Duration) (granted, error) {
	var g granted
	err := e.write(ctx, doing, func(ctx context.Context) error {
		r, err := e.client.Grant(ctx, int64(seconds(ttl)))
		if err == nil {
			g = granted{hold{epoch, r.ID, seconds(ttl)}, time.Duration(r.TTL) * time.Second}
		}
		return err
	})
	return g, certain(err) // a lease that nobody knows of binds nobody, and ends by itself
}

func (e *Engine) putLease(g granted) clientv3.Op {
	return clientv3.OpPut(e.key("lease"), string(g.encode()), clientv3.WithLease(g.id))
}

// revoke ends a lease that nobody holds. It would also end by itself.
func (e *Engine) revoke(ctx context.Context, id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(ctx, 2*glance)
	defer cancel()
	_, _ = e.client.Revoke(ctx, id)
}

// keepAlive begins a lease's time anew, and says how long that is. It does not use the client's own KeepAliveOnce:
// while etcd has no leader, that one asks again without a pause.
func (e *Engine) keepAlive(ctx context.Context, id clientv3.LeaseID) (left time.Duration, err error) {
	err = e.read(ctx, "renew the lease", func(ctx context.Context) error {
		stream, err := pb.NewLeaseClient(e.client.ActiveConnection()).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
		if err == nil {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
		}
		if err != nil {
			return clientv3.ContextError(ctx, err)
		}
		r, err := stream.Recv()
		switch {
		case err != nil:
			return clientv3.ContextError(ctx, err)
		case r.TTL <= 0:
			return rpctypes.ErrLeaseNotFound
		}
		left = time.Duration(r.TTL) * time.Second
		return stream.CloseSend()
	})
	return left, err
}
