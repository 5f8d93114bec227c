package control

import (
	"context"
	"net/http"
)

// acceptRequest is the body of the request to go on with a store that lacks what this host saw.
type acceptRequest struct {
	Reason string `json:"reason"`
}

func storeRoutes() []route {
	return []route{{name: "accept-store", pattern: "POST /v1/store/accept", what: "accept the store as it is",
		acts: true, slow: true, serve: (*call).acceptStore}}
}

// acceptStore is for root alone: what the store lost may be what keeps an operator from acting.
func (c *call) acceptStore(ctx context.Context) error {
	if c.actor.UID != 0 {
		return &RefusedError{c.actor.user() + " may not accept the store as it is: only root may"}
	}
	var q acceptRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	if q.Reason == "" {
		return &UsageError{"a reason is required: the audit records it"}
	}
	if err := c.backend.AcceptStore(ctx, c.actor.String(), q.Reason); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

// AcceptStore has this host go on with a store that lacks what the host saw in it.
func (c *Client) AcceptStore(ctx context.Context, reason string) error {
	_, err := post[struct{}](ctx, c, slowTimeout, "/v1/store/accept", acceptRequest{reason})
	return err
}
