package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/keyd-project/keyd/internal/key"
)

// fail turns any failure of a call into an *Error with a class and a hint.
func (c *Client) fail(ctx context.Context, k call, err error) error {
	e := &Error{Op: k.op.words, Vault: c.cfg.Vault.Name, Key: k.key, Version: k.version, err: err}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		var body []byte
		if response.RawResponse != nil {
			// The SDK has already downloaded the body. An unreadable body gives no hint.
			body, _ = runtime.Payload(response.RawResponse)
		}
		e.fillFromResponse(response, body)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		e.err = fmt.Errorf("%w: %w", cause, err)
	}
	e.class = classify(e, k)
	e.Hint = c.hint(e, k)
	return e
}

func classify(e *Error, k call) key.Class {
	var refused *refusal
	switch {
	case k.op.changes && k.effect.possible():
		return key.Ambiguous
	case errors.As(e.err, &refused):
		return key.Refused
	case e.Status != 0:
		return classifyStatus(e)
	}
	var token *tokenError
	if errors.As(e.err, &token) {
		return token.class()
	}
	return key.Retry
}

// classifyStatus classifies answers that certainly had no effect.
func classifyStatus(e *Error) key.Class {
	switch {
	case e.Inner == innerBeingDeleted:
		return key.Retry
	case e.Inner == innerDeletedButRecoverable:
		return key.Refused
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusRequestTimeout,
		e.Status == http.StatusConflict, e.Status >= 500:
		return key.Retry
	default:
		return key.Refused
	}
}

// definiteRefusal reports whether a status means that the service refused the request before it did anything.
func definiteRefusal(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusNotFound, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return false
}
