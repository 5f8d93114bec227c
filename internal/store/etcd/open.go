package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// format is the form of what this version stores.
const format = "1"

const (
	// patience is how long keyd waits for one answer. It is longer than etcd itself waits for one (7 s by default), so
	// that etcd's own answer comes first.
	patience = 8 * time.Second
	// glance is how long keyd waits for the first answer to a question that it may ask again, at another member.
	glance = 500 * time.Millisecond
	// etcd closes a connection that is pinged more often than every 5 s, or while nothing is asked.
	pingEvery, pingWait = 6 * time.Second, 3 * time.Second
)

// reconnect has keyd find a member again soon after it is back. gRPC itself would wait up to two minutes.
var reconnect = grpc.ConnectParams{MinConnectTimeout: 3 * time.Second, Backoff: backoff.Config{
	BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}}

// Engine is a store's engine on etcd. See stored.Engine.
type Engine struct {
	cfg     Config
	client  *clientv3.Client
	session *session
	doubt   *doubt
	page    int   // entries that are read at once
	history int64 // revisions that etcd may keep before Warnings says so
}

// Open opens the store that Init made. At least one member must answer, and none that answers may be too old.
func Open(ctx context.Context, c Config) (*Engine, error) {
	e, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := e.readFormat(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Init makes an empty store under the prefix. It changes nothing if there is one.
func Init(ctx context.Context, c Config) error {
	e, err := dial(ctx, c)
	if err != nil {
		return err
	}
	_, err = e.try(ctx, change{doing: "make the store", key: "format", value: []byte(format),
		when: []clientv3.Cmp{e.is("format", nil)}, then: []clientv3.Op{e.put("format", []byte(format))}})
	if err == nil {
		err = e.readFormat(ctx)
	}
	return errors.Join(err, e.Close())
}

// dial connects, and looks at the members' versions.
func dial(ctx context.Context, c Config) (*Engine, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	secure, err := c.tls()
	if err != nil {
		return nil, err
	}
	c.Quota, c.patience = cmp.Or(c.Quota, DefaultQuota), cmp.Or(c.patience, patience)
	e := &Engine{cfg: c, session: &session{}, doubt: newDoubt(), page: 500, history: longHistory}
	e.client, err = clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: secure, DialTimeout: c.patience,
		DialKeepAliveTime: pingEvery, DialKeepAliveTimeout: pingWait,
		// The client asks once: it would hide that an earlier attempt may have happened. See write.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(),
		DialOptions: append([]grpc.DialOption{
			grpc.WithStatsHandler(departures{}), grpc.WithConnectParams(reconnect),
			grpc.WithPerRPCCredentials(e.session),
			grpc.WithNoProxy(), // a proxy in the environment is for Azure
		}, c.dial...),
	})
	if err != nil {
		return nil, e.failed("connect", explained(e, err), false)
	}
	signIn := func(ctx context.Context) error { return e.signIn(ctx, nil) }
	if err := e.read(ctx, "sign in", signIn); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if err := e.checkMembers(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Engine) readFormat(ctx context.Context) error {
	found, err := e.look(ctx, "open the store", e.get("format"))
	if err != nil {
		return err
	}
	switch got := found.value("format"); {
	case got == nil:
		return e.failed("open the store", fmt.Errorf("there is none under %s; make it: sudo keyd store init",
			e.cfg.Prefix), false)
	case string(got) != format:
		return e.failed("open the store", fmt.Errorf("it has the form %q, which this version of keyd does not know; "+
			"install the version that wrote it, or a later one", got), false)
	}
	return nil
}

// Name says where the engine is.
func (e *Engine) Name() string { return "etcd at " + e.cfg.hosts() }

// Close ends the connections. A lease ends by itself.
func (e *Engine) Close() error {
	if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// failed is an error of this engine.
func (e *Engine) failed(doing string, err error, ambiguous bool) error {
	return &stored.EngineError{Engine: e.Name(), Doing: doing, Err: err, Ambiguous: ambiguous}
}
