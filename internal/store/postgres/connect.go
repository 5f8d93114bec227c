package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	maxConns    = 8
	pingTimeout = 2 * time.Second // a connection that was idle is asked first whether its server is still there
	warned      = "keyd warned"   // what a connection's notice is kept under
)

// connected is the part of the configuration that is the same for every connection.
func connected(c *pgxpool.Config) {
	name := c.ConnConfig.RuntimeParams["application_name"]
	if name == "" {
		name = "keyd"
	}
	// Nothing of the environment gets in, and nothing that pgbouncer would have to keep for a session.
	c.ConnConfig.RuntimeParams = map[string]string{"application_name": name}
	c.ConnConfig.Password = ""
	c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.ConnConfig.StatementCacheCapacity, c.ConnConfig.DescriptionCacheCapacity = 0, 0
	if c.ConnConfig.ConnectTimeout == 0 {
		c.ConnConfig.ConnectTimeout = connectTimeout
	}
	c.ConnConfig.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" {
			conn.CustomData()[warned] = n
		}
	}
	c.MaxConns, c.PingTimeout = maxConns, pingTimeout
	c.MaxConnLifetime, c.MaxConnIdleTime = 30*time.Minute, 5*time.Minute
}

// beforeConnect prepares one connection.
func (o Options) beforeConnect(_ context.Context, c *pgx.ConnConfig) (err error) {
	if o.Password != nil {
		if c.Password, err = o.Password(); err != nil {
			return err
		}
	}
	c.ValidateConnect = o.choice(len(hostsOf(&c.Config)) > 1)
	neverCancel(&c.Config)
	return nil
}

// errNoCancel ends what would ask the server to cancel a statement.
var errNoCancel = errors.New("keyd lets the server finish")

// neverCancel keeps pgx from asking the server to cancel what does not answer in time. A COMMIT that is cancelled while
// it waits for a standby is shown by PostgreSQL, although no standby has it.
func neverCancel(c *pgconn.Config) {
	var done atomic.Bool
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if done.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	c.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		done.Store(true)
		return nil
	}
}

// choice accepts a server that takes writes. Of several it prefers one that has its standbys: an old primary that
// nobody stopped has none.
func (o Options) choice(several bool) pgconn.ValidateConnectFunc {
	seen := map[string]bool{}
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if err := pgconn.ValidateConnectTargetSessionAttrsReadWrite(ctx, c); err != nil {
			return err
		}
		at := c.Conn().RemoteAddr().String()
		if !several || !o.Synchronous || seen[at] {
			return nil // pgx asks a second time about the server that it takes for want of a better one
		}
		seen[at] = true
		results, err := c.Exec(ctx, standbys).ReadAll()
		if err != nil {
			return err
		}
		var row []string
		for _, column := range results[0].Rows[0] {
			row = append(row, string(column))
		}
		if refusal := keptIn(row).refusal(); refusal != nil {
			return &lessLiked{refusal}
		}
		return nil
	}
}

// lessLiked has pgx try the other hosts first.
type lessLiked struct{ error }

func (l *lessLiked) Unwrap() error { return l.error }

// As stands in for pgx's own error of that meaning, which nobody else can fill in.
func (l *lessLiked) As(target any) bool {
	p, ok := target.(**pgconn.NotPreferredError)
	if ok {
		*p = &pgconn.NotPreferredError{}
	}
	return ok
}

// afterConnect refuses a schema that this keyd does not know.
func afterConnect(ctx context.Context, c *pgx.Conn) error {
	var found int
	if err := c.QueryRow(ctx, "SELECT schema FROM keyd.head").Scan(&found); err != nil {
		return err
	}
	return known(found)
}

// reconnect drops the connections after an error that others of them would have, too: the server is gone, or it can
// change nothing and another host may have been promoted.
func (e *Engine) reconnect(err error) {
	var answer *pgconn.PgError
	var unsafe *SynchronousError
	var drop bool
	switch {
	case errors.Is(err, context.Canceled), refusedBy(err):
	case errors.As(err, &unsafe):
		drop = e.several
	case errors.As(err, &answer):
		drop = e.several && answer.Code == "25006" || strings.HasPrefix(answer.Code, "57P")
	default:
		drop = true
	}
	if drop {
		e.pool.Reset()
	}
}
