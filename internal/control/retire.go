package control

import (
	"context"
	"net/http"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// RetireQuestion asks what a retire rule would disable of a key.
type RetireQuestion struct {
	Key string `json:"key"`
	// Rule is nil for the configured rule. Then Vaults, the URLs of the key's vaults, are the configured ones, too.
	Rule   *key.RetireRule `json:"rule,omitempty"`
	Vaults []string        `json:"vaults,omitempty"`
}

// enableRequest is the body of a request to enable a version.
type enableRequest struct {
	Key     string `json:"key"`
	Version string `json:"version"`
	Reason  string `json:"reason"`
}

// retireRoutes are the routes that concern the disabling of old versions.
func retireRoutes() []route {
	return []route{
		{name: "retirements", pattern: "POST /v1/retirements", what: "see what is to be retired", slow: true,
			serve: (*call).retirements},
		{name: "retire", pattern: "POST /v1/retire", what: "consent to a retire rule", acts: true,
			serve: (*call).retire},
		{name: "enable", pattern: "POST /v1/enable", what: "enable a version", acts: true, slow: true,
			serve: (*call).enable},
	}
}

func (c *call) retirements(ctx context.Context) error {
	var q []RetireQuestion
	if err := c.decode(&q); err != nil {
		return err
	}
	for _, x := range q {
		if err := checkName(x.Key); err != nil {
			return err
		}
	}
	shown, err := c.backend.Retirements(ctx, q)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, shown)
}

func (c *call) retire(ctx context.Context) error {
	return c.onKey(func(q keyRequest) error {
		if q.Token == "" {
			return &UsageError{"retire needs the digest of what was shown"}
		}
		return c.backend.ConsentToRetire(ctx, c.actor.String(), q.Key, q.Reason, q.Token)
	})
}

func (c *call) enable(ctx context.Context) error {
	var q enableRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := checkName(q.Key); err != nil {
		return err
	}
	if _, err := key.ParseID(q.Version); err != nil {
		return &UsageError{"a version has 32 hex digits: keyd status KEY lists them"}
	}
	if q.Reason == "" {
		return &UsageError{"a reason is required: the audit records it"}
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	if err := c.backend.Enable(ctx, c.actor.String(), q.Key, q.Version, q.Reason); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

// enableTimeout is how long a client waits until a version is enabled: as long as the daemon does, and a little.
const enableTimeout = EnableWait + 10*time.Second

// EnableWait is how long the daemon waits until a version is enabled. keyd goes on trying after that.
const EnableWait = 90 * time.Second

// Retirements shows what retire rules are to disable, and changes nothing.
func (c *Client) Retirements(ctx context.Context, q ...RetireQuestion) ([]status.Retirement, error) {
	return post[[]status.Retirement](ctx, c, slowTimeout, "/v1/retirements", q)
}

// ConsentToRetire consents to a key's retire rule, and to the versions that Retirements showed with this digest.
func (c *Client) ConsentToRetire(ctx context.Context, keyName, reason, digest string) error {
	_, err := post[struct{}](
		ctx,
		c,
		quickTimeout,
		"/v1/retire",
		keyRequest{Key: keyName, Reason: reason, Token: digest},
	)
	return err
}

// Enable enables a version of a key again, and returns once it is enabled.
func (c *Client) Enable(ctx context.Context, keyName, version, reason string) error {
	_, err := post[struct{}](ctx, c, enableTimeout, "/v1/enable", enableRequest{keyName, version, reason})
	return err
}
