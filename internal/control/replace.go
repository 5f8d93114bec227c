package control

import (
	"context"
	"net/http"

	"github.com/keyd-project/keyd/internal/status"
)

// ReplaceOptions are the options of `keyd replace`.
type ReplaceOptions struct {
	Key    string      `json:"key,omitempty"`
	With   string      `json:"with,omitempty"`  // the new key
	Vault  string      `json:"vault,omitempty"` // nickname, where consumers go
	Step   ReplaceStep `json:"step,omitempty"`
	Digest string      `json:"digest,omitempty"` // of what was shown
}

// ReplaceStep is what an operator asks for.
type ReplaceStep string

// The steps; "" begins, or goes on.
const (
	ReplaceDisable ReplaceStep = "disable"
	ReplaceStop    ReplaceStep = "stop"
)

// replaceRequest is the body of a request to replace a key.
type replaceRequest struct {
	ReplaceOptions
	Reason string `json:"reason"`
}

func replaceRoutes() []route {
	return []route{
		{name: "replacements", pattern: "POST /v1/replacements", what: "see what replaces a key", slow: true,
			serve: (*call).replacements},
		{name: "replace", pattern: "POST /v1/replace", what: "replace a key", acts: true, slow: true,
			serve: (*call).replace},
	}
}

func (o ReplaceOptions) check() error {
	for _, name := range []string{o.Key, o.With, o.Vault} {
		if name == "" {
			continue
		}
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) replacements(ctx context.Context) error {
	var o ReplaceOptions
	if err := c.decode(&o); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	shown, err := c.backend.Replacements(ctx, o)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, shown)
}

func (c *call) replace(ctx context.Context) error {
	var q replaceRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	switch err := checkName(q.Key); {
	case err != nil:
		return err
	case q.Reason == "":
		return &UsageError{"a reason is required: the audit records it"}
	case q.Step != "" && q.Step != ReplaceDisable && q.Step != ReplaceStop:
		return &UsageError{"a replacement has no such step"}
	}
	if err := q.check(); err != nil {
		return err
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	if err := c.backend.Replace(ctx, c.actor.String(), q.Reason, q.ReplaceOptions); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

// Replacements shows how far the replacement of a key is, or what would follow from one with a new key. With no key it
// shows every replacement. It changes nothing.
func (c *Client) Replacements(ctx context.Context, o ReplaceOptions) ([]status.Replacement, error) {
	return post[[]status.Replacement](ctx, c, slowTimeout, "/v1/replacements", o)
}

// Replace takes the next step of a replacement, as Replacements showed it.
func (c *Client) Replace(ctx context.Context, reason string, o ReplaceOptions) error {
	_, err := post[struct{}](ctx, c, slowTimeout, "/v1/replace", replaceRequest{o, reason})
	return err
}
