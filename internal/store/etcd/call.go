package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// departures notes what became of a request, on its way to etcd. It is gRPC's stats.Handler.
type departures struct{}

// trip is what departures notes of one request.
type trip struct {
	left  atomic.Bool            // it left this host, or was about to: if not, certainly nothing happened
	ended atomic.Pointer[string] // why it did not, in gRPC's words
}

type tripKey struct{}

func (departures) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (departures) HandleRPC(ctx context.Context, s stats.RPCStats) {
	t, ok := ctx.Value(tripKey{}).(*trip)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.OutHeader:
		t.left.Store(true)
	case *stats.End:
		if s.Error != nil {
			text := status.Convert(s.Error).Message()
			t.ended.Store(&text)
		}
	}
}

func (departures) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (departures) HandleConn(context.Context, stats.ConnStats) {}

// why is the reason for an error of the request: the caller's own, or the connection's, or what etcd said.
func (t *trip) why(ctx context.Context, err error) error {
	switch text := t.ended.Load(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) && !t.left.Load() && text != nil:
		return fmt.Errorf("no member could be reached (%w): %s", err, *text)
	}
	return err
}

// refused are etcd's answers after which certainly nothing happened. NOSPACE is none of them: see try.
var refused = []error{
	rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrTooManyRequests,
	rpctypes.ErrNoLeader, rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty,
	rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrLeaseNotFound, learner,
}

// learner is the answer of a member that may not vote yet.
var learner = rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)

// passing are those of them that another try, perhaps at another member, may not get.
var passing = append([]error{rpctypes.ErrTooManyRequests, rpctypes.ErrNoLeader, learner}, signedOut...)

func among(list []error, err error) bool {
	for _, one := range list {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// read asks a question, and again at another member while there is no answer. The first answers must come quickly, so
// that a member that hangs does not use up the patience.
func (e *Engine) read(ctx context.Context, doing string, ask func(context.Context) error) error {
	whole, cancel := context.WithTimeout(ctx, e.cfg.patience)
	defer cancel()
	for wait := glance; ; wait *= 2 {
		t, token := &trip{}, e.session.token.Load()
		one, cancel := context.WithTimeout(context.WithValue(clientv3.WithRequireLeader(whole), tripKey{}, t), wait)
		err := ask(one)
		cancel()
		if err == nil {
			return nil
		}
		if !unanswered(err) && !among(passing, err) || !e.ready(whole, wait/10, &err, token) {
			return e.failed(doing, explained(e, t.why(ctx, err)), false)
		}
	}
}

// write asks once, and again only after an answer that says that nothing happened.
func (e *Engine) write(ctx context.Context, doing string, ask func(context.Context) error) error {
	whole, cancel := context.WithTimeout(ctx, e.cfg.patience)
	defer cancel()
	for {
		if err := ctx.Err(); err != nil {
			return e.failed(doing, err, false)
		}
		t, token := &trip{}, e.session.token.Load()
		err := ask(context.WithValue(clientv3.WithRequireLeader(whole), tripKey{}, t))
		if err == nil {
			return nil
		}
		certain := !t.left.Load() || among(refused, err)
		if !certain || !among(passing, err) || !e.ready(whole, glance/10, &err, token) {
			return e.failed(doing, explained(e, t.why(ctx, err)), !certain)
		}
	}
}

// ready sees to it that another try may go better: it signs in, if that is what was asked for, and waits a moment. It
// replaces the error if that is impossible.
func (e *Engine) ready(ctx context.Context, d time.Duration, why *error, token *string) bool {
	if among(signedOut, *why) {
		err := e.signIn(ctx, token)
		if err != nil {
			*why = err
		}
		if err != nil && !unanswered(err) || e.cfg.User == "" && errors.Is(*why, rpctypes.ErrUserEmpty) {
			return false
		}
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// certain is an error of something that does no harm if it happened all the same.
func certain(err error) error {
	var failed *stored.EngineError
	if errors.As(err, &failed) && failed.Ambiguous {
		return &stored.EngineError{Engine: failed.Engine, Doing: failed.Doing, Err: failed.Err}
	}
	return err
}

// unanswered reports whether a question got no answer, so that another member may give one.
func unanswered(err error) bool {
	var etcd rpctypes.EtcdError
	code := status.Code(err)
	if errors.As(err, &etcd) {
		code = etcd.Code()
	}
	return errors.Is(err, context.DeadlineExceeded) || code == codes.Unavailable || code == codes.DeadlineExceeded ||
		code == codes.Canceled
}

// explained says what to do about an error of etcd.
func explained(e *Engine, err error) error {
	is := func(one error) bool { return errors.Is(err, one) }
	switch {
	case is(rpctypes.ErrNoSpace):
		return fmt.Errorf("its database is full (%w): compact and defragment it, or raise its quota, and then: "+
			"etcdctl alarm disarm", err)
	case is(rpctypes.ErrAuthFailed):
		return fmt.Errorf("it refuses the user %q (%w): check password_file", e.cfg.User, err)
	case is(rpctypes.ErrPermissionDenied):
		return fmt.Errorf("keyd may not do that (%w): etcdctl role grant-permission ROLE --prefix=true readwrite %s",
			err, e.cfg.Prefix)
	case is(rpctypes.ErrUserEmpty):
		return fmt.Errorf("it asks for a user (%w): set user and password_file, or a certificate of a user", err)
	case is(rpctypes.ErrRequestTooLarge), is(rpctypes.ErrTooManyOps):
		return fmt.Errorf("it takes less than etcd does by default (%w): check --max-request-bytes (1572864) and "+
			"--max-txn-ops (128)", err)
	case is(rpctypes.ErrNoLeader):
		return fmt.Errorf("its members have no leader (%w): check that most of them run and reach each other", err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time (%w)", err)
	}
	return err
}
