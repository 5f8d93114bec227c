package postgres

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyd-project/keyd/internal/store/stored"
)

// Engine is a store for several hosts on PostgreSQL. Any goroutine may call it.
type Engine struct {
	name        string
	synchronous bool
	deadline    time.Duration
	several     bool // hosts
	pool        *pgxpool.Pool

	doubts  atomic.Int64 // changes that were ambiguous
	settled atomic.Int64 // those of them that have ended
}

var _ stored.Engine = (*Engine)(nil)

// Open prepares an engine. It connects only when it is asked for something. Errors: *Problem.
func Open(o Options) (*Engine, error) {
	c, err := o.config()
	if err != nil {
		return nil, err
	}
	connected(c)
	c.BeforeConnect, c.AfterConnect = o.beforeConnect, afterConnect
	hosts := hostsOf(&c.ConnConfig.Config)
	e := &Engine{name: nameOf(hosts), synchronous: o.Synchronous, deadline: o.Deadline, several: len(hosts) > 1}
	if e.deadline == 0 {
		e.deadline = defaultDeadline
	}
	e.pool, err = pgxpool.NewWithConfig(context.Background(), c)
	return e, err
}

func nameOf(hosts []host) string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.String()
	}
	return "PostgreSQL at " + strings.Join(names, ",")
}

// Name says which servers keyd asks.
func (e *Engine) Name() string { return e.name }

// Close ends the connections.
func (e *Engine) Close() error {
	e.pool.Close()
	return nil
}
