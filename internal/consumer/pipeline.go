package consumer

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/time/rate"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/vault"
)

// hostGuard refuses every request that is not for Resource Manager over https. A list's nextLink can name any host, and
// the SDK would send the token there.
type hostGuard struct{ endpoint string }

func (g hostGuard) Do(req *policy.Request) (*http.Response, error) {
	if u := req.Raw().URL; !key.SameOrigin(u, g.endpoint) {
		return nil, final{badAnswerf("it sends keyd on to %s://%s, and keyd sends a token nowhere but to %s",
			u.Scheme, vault.OneLine(u.Host), g.endpoint)}
	}
	return req.Next()
}

// final keeps the SDK from retrying an error that stays the same.
type final struct{ error }

// NonRetriable marks the error for azcore's retry policy.
func (final) NonRetriable() {}

// Unwrap returns the error itself.
func (e final) Unwrap() error { return e.error }

// What keyd allows itself of what Resource Manager allows one caller to read in a subscription: 250 requests at once
// and 25 a second after that (learn.microsoft.com, "Understand how Azure Resource Manager throttles requests").
// Resource Graph allows 15 in 5 seconds.
const (
	CallsPerSecond = 5
	CallsAtOnce    = 10
)

// Budget bounds the calls to Azure, of all looks together. Who looks for an operator or a due retirement goes first.
// It outlives Clients.
type Budget struct {
	turn  *priority.Slots
	calls *rate.Limiter
}

// NewBudget makes a budget of so many calls.
func NewBudget(perSecond float64, atOnce int) *Budget {
	return &Budget{priority.NewSlots(1), rate.NewLimiter(rate.Limit(perSecond), atOnce)}
}

// Do lets a request through when the budget has room for it.
func (b *Budget) Do(req *policy.Request) (*http.Response, error) {
	if err := b.wait(req.Raw().Context()); err != nil {
		return nil, final{err}
	}
	return req.Next()
}

func (b *Budget) wait(ctx context.Context) error {
	if err := b.turn.Acquire(ctx); err != nil {
		return err
	}
	defer b.turn.Release()
	return b.calls.Wait(ctx)
}

// counter counts every answer.
type counter struct {
	metrics *Metrics
	log     *slog.Logger
}

func (c *counter) Do(req *policy.Request) (*http.Response, error) {
	k := callOf(req.Raw().Context())
	begun := time.Now()
	resp, err := req.Next()
	status := 0
	if err == nil {
		status = resp.StatusCode
	}
	c.metrics.observe(k.op, status)
	c.log.Debug("request to Resource Manager", "operation", k.op.name, "resource", k.id, "status", status,
		"elapsed", time.Since(begun))
	return resp, vault.Lasting(err)
}
