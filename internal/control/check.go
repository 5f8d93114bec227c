package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// checking is one line of the answer to a check: how far it is, or at last its result.
type checking struct {
	Progress *status.Progress `json:"progress,omitempty"`
	Checked  *status.Checked  `json:"checked,omitempty"`
}

func (c *call) check(ctx context.Context) error {
	name := c.r.URL.Query().Get("name")
	if name != "" {
		if err := checkName(name); err != nil {
			return err
		}
	}
	c.begin("application/x-ndjson")
	enc := json.NewEncoder(stream{c: c, flush: true})
	checked, err := c.backend.Check(ctx, name, func(p status.Progress) {
		_ = enc.Encode(checking{Progress: &p}) // when the reader has gone, ctx ends
	})
	if err != nil {
		return err
	}
	return enc.Encode(checking{Checked: &checked})
}

// Check tries everything that the daemon needs, or what concerns the key or the vault with this name. It tells how far
// it is, and gives up when that does not change for slowTimeout.
func (c *Client) Check(ctx context.Context, name string, tell func(status.Progress)) (status.Checked, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(slowTimeout, func() { cancel(context.DeadlineExceeded) })
	defer idle.Stop()
	path := "/v1/check?" + url.Values{"name": {name}}.Encode()
	body, trailers, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return status.Checked{}, err
	}
	defer body.Close()
	var last checking
	for dec := json.NewDecoder(body); dec.More(); {
		last = checking{}
		if err := dec.Decode(&last); err != nil {
			return status.Checked{}, fmt.Errorf("read the daemon's answer: %w", err)
		}
		if last.Progress != nil {
			tell(*last.Progress)
		}
		idle.Reset(slowTimeout)
	}
	switch err := trailerError(trailers); {
	case err != nil:
		return status.Checked{}, err
	case context.Cause(ctx) != nil:
		return status.Checked{}, fmt.Errorf("read the daemon's answer: %w", context.Cause(ctx))
	case last.Checked == nil:
		return status.Checked{}, fmt.Errorf("the daemon's answer was cut short: see its log, then: keyd check")
	}
	return *last.Checked, nil
}
