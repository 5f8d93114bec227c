package control

import (
	"context"
	"net/http"
)

func (c *call) acknowledge(ctx context.Context) error {
	return c.onKey(func(q keyRequest) error {
		return c.backend.Acknowledge(ctx, c.actor.String(), q.Key, q.Reason)
	})
}

func (c *call) prove(ctx context.Context) error {
	var q keyRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := checkName(q.Key); err != nil {
		return err
	}
	proofs, err := c.backend.Prove(ctx, c.actor.String(), q.Key)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, proofs)
}
