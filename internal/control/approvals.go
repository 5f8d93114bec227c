package control

import (
	"context"
	"net/http"

	"github.com/keyd-project/keyd/internal/key"
)

// ProposedError says that an act is recorded as a proposal, and waits for a second operator.
type ProposedError struct{ Text string }

func (e *ProposedError) Error() string { return e.Text }

// proposalRequest is the body of an approval or a withdrawal.
type proposalRequest struct {
	Proposal key.ID `json:"proposal"`
	Reason   string `json:"reason"`
}

// proposalRoutes are the routes that concern acts that wait for a second operator.
func proposalRoutes() []route {
	return []route{
		{name: "approve", pattern: "POST /v1/approve", what: "approve a proposal", acts: true, slow: true,
			serve: (*call).approve},
		{name: "withdraw", pattern: "POST /v1/withdraw", what: "withdraw a proposal", acts: true,
			serve: (*call).withdraw},
	}
}

func (c *call) approve(ctx context.Context) error {
	return c.onProposal(func(q proposalRequest) error { return c.backend.Approve(ctx, q.Proposal, q.Reason) })
}

func (c *call) withdraw(ctx context.Context) error {
	return c.onProposal(func(q proposalRequest) error { return c.backend.Withdraw(ctx, q.Proposal, q.Reason) })
}

func (c *call) onProposal(act func(proposalRequest) error) error {
	var q proposalRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if _, err := key.ParseID(string(q.Proposal)); err != nil {
		return &UsageError{"a proposal has an id of 32 hex digits: keyd approvals lists them"}
	}
	if q.Reason == "" {
		return &UsageError{"a reason is required: the audit records it"}
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	if err := act(q); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

type actorKey struct{}

// WithActor tells a Backend who is behind the request that it serves under the context.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorOf is who is behind the request that a Backend serves under the context.
func ActorOf(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// Person is the actor as proposals name them. A user without a login that keyd knows stands for themselves; of root,
// nobody can tell who it is.
func (a Actor) Person() key.Person {
	p := key.Person{Actor: a.String(), UID: a.UID, Login: a.Login}
	if p.Login == "" && a.UID != 0 {
		p.Login = a.Name
	}
	return p
}

// Approve approves a proposal, which has its act happen.
func (c *Client) Approve(ctx context.Context, proposal key.ID, reason string) error {
	_, err := post[struct{}](ctx, c, slowTimeout, "/v1/approve", proposalRequest{proposal, reason})
	return err
}

// Withdraw ends a proposal, so that nobody can approve it any more.
func (c *Client) Withdraw(ctx context.Context, proposal key.ID, reason string) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/withdraw", proposalRequest{proposal, reason})
	return err
}
