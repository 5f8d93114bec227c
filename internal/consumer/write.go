package consumer

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// once has the SDK send a change one time. A throttled request was not taken, so it may go again.
var once = policy.RetryOptions{
	MaxRetries: 3, TryTimeout: tryTimeout, MaxRetryDelay: longestRetryDelay,
	ShouldRetry: func(resp *http.Response, err error) bool {
		return err == nil && resp.StatusCode == http.StatusTooManyRequests
	},
}

// write sends one change. class is that of the error.
func (c *Client) write(ctx context.Context, k call, method, path, etag string, body settings) (r response,
	class key.Class, err error) {
	k.sent = &sent{}
	at, err := c.urlOf(path, "", apiVersionOf(k.id))
	if err != nil {
		return r, key.Refused, k.fail(err)
	}
	r, err = c.send(policy.WithRetryOptions(ctx, once), k, request{method, at, etag, body},
		http.StatusOK, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return r, classOfWrite(err, k.sent.maybe.Load()), err
	}
	return r, key.Ambiguous, nil
}

// await follows the operation that a change began, where the answer names one, to its end. An *operationFailed is what
// Azure says; after any other error nothing is known.
func (c *Client) await(ctx context.Context, k call, began response) error {
	k = call{op: opPoll, id: k.id}
	at, byStatus := began.header.Get("Azure-AsyncOperation"), true
	if at == "" && began.status == http.StatusAccepted {
		at, byStatus = began.header.Get("Location"), false
	}
	if at == "" {
		return nil
	}
	for wait, last := newWait(), began; ; {
		if err := wait.sleep(ctx, retryAfter(last.header)); err != nil {
			return k.fail(err)
		}
		var err error
		last, err = c.send(ctx, k, request{method: http.MethodGet, at: at}, http.StatusOK, http.StatusCreated,
			http.StatusAccepted, http.StatusNoContent)
		if err != nil {
			return err
		}
		done := last.status != http.StatusAccepted
		if byStatus {
			done, err = ended(last.body)
		} else if next := last.header.Get("Location"); next != "" {
			at = next
		}
		if done || err != nil {
			return k.check(err)
		}
	}
}

// ended reads the status of an operation.
func ended(body []byte) (bool, error) {
	var o struct {
		Status *string `json:"status"`
		Error  struct {
			Code    *string `json:"code"`
			Message *string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &o); err != nil {
		return false, badAnswerf("%v", err)
	}
	if err := onlyOnce(body, everyDepth); err != nil {
		return false, err
	}
	switch status := orEmpty(o.Status); status {
	case "":
		return false, missing("status")
	case "Succeeded":
		return true, nil
	case "Failed", "Canceled", "Cancelled":
		return true, &operationFailed{vault.OneLine(status + " " + orEmpty(o.Error.Code)),
			vault.OneLine(orEmpty(o.Error.Message))}
	}
	return false, nil
}

// wait paces the questions after a change.
type wait struct{ next time.Duration }

func newWait() *wait { return &wait{time.Second} }

// sleep waits as long as Azure asked for, or else each time twice as long.
func (w *wait) sleep(ctx context.Context, asked time.Duration) error {
	if asked == 0 {
		asked = w.next
	}
	w.next = min(2*w.next, 30*time.Second)
	timer := time.NewTimer(max(time.Second, min(asked, longestRetryDelay)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// retryAfter is what a header asks for, in seconds; 0: nothing.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
