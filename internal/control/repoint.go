package control

import (
	"context"
	"net/http"
)

// repointRequest is the body of a request to move consumers of a key.
type repointRequest struct {
	Key       string   `json:"key"`
	Reason    string   `json:"reason"`
	Consumers []string `json:"consumers"` // resource ids or their last parts; none: all that keyd moves
}

func repointRoutes() []route {
	return []route{{name: "repoint", pattern: "POST /v1/repoint", what: "move consumers to the newest version",
		acts: true, serve: (*call).repoint}}
}

func (c *call) repoint(ctx context.Context) error {
	var q repointRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	switch err := checkName(q.Key); {
	case err != nil:
		return err
	case q.Reason == "":
		return &UsageError{"a reason is required: the audit records it"}
	}
	for _, text := range append([]string{q.Reason}, q.Consumers...) {
		if err := checkText("reason or consumer", text); err != nil {
			return err
		}
	}
	if err := c.backend.Repoint(ctx, c.actor.String(), q.Key, q.Reason, q.Consumers); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

// Repoint asks keyd to move consumers of a key to the newest version, one after the other. They are named by their
// resource ids or the last parts of these; none stands for all that the configuration says keyd moves.
func (c *Client) Repoint(ctx context.Context, keyName, reason string, consumers []string) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/repoint", repointRequest{keyName, reason, consumers})
	return err
}
