package vault

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// taggedCredential marks errors of the sign-in, so that keyd does not take them for errors of the vault. All sign-ins
// of keyd pass it, and a Credential keeps how they ended.
type taggedCredential struct {
	next     azcore.TokenCredential
	ofVaults bool // vaults want the token
}

func (c taggedCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	lost := &lostCause{}
	token, err := c.next.GetToken(context.WithValue(ctx, lostCauseKey{}, lost), o)
	own, isOwn := c.next.(*Credential)
	if err != nil {
		failed := &tokenError{err: err, cause: lost.get(), advice: "check azure.credential, client_id and tenant_id"}
		if isOwn {
			failed.advice = own.hint()
		}
		token, err = azcore.AccessToken{}, failed
	}
	if isOwn {
		own.signedIn(ctx, o, c.ofVaults, err)
	}
	return token, err
}

// lostCause keeps the last network error of one sign-in. azidentity's own errors keep only its text.
type lostCause struct {
	mu  sync.Mutex
	err error
}

type lostCauseKey struct{}

func (c *lostCause) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *lostCause) get() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// signInTransport is the transport of the sign-in.
type signInTransport struct{ next policy.Transporter }

func (t signInTransport) Do(r *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(r)
	err = lasting(err)
	if lost, ok := r.Context().Value(lostCauseKey{}).(*lostCause); ok {
		lost.set(err)
	}
	return resp, err
}

// lasting stops the SDK from repeating a request that a proxy will always refuse, or whose deadline is over.
func lasting(err error) error {
	refusal, late := new(proxyRefusal), new(term.LateError)
	if errors.As(err, &refusal) && refusal.fixed() || errors.As(err, &late) {
		return final{err}
	}
	return err
}

// tokenError is a failed sign-in; keyd did not send the request.
type tokenError struct {
	err    error
	cause  error // the network error, if known; nil after an answer
	advice string
}

// Error removes the separator lines that the SDK prints, so that truncation does not cut off what Entra said
// (AADSTS…).
func (e *tokenError) Error() string {
	return "no token: " + oneLine(strings.ReplaceAll(e.err.Error(), strings.Repeat("-", 80), ""))
}

func (e *tokenError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.err}
	}
	return []error{e.err, e.cause}
}

// NonRetriable stops the SDK from repeating what the credential has already retried.
func (e *tokenError) NonRetriable() {}

func (e *tokenError) class() key.Class {
	var ended *hasEnded
	if errors.As(e.err, &ended) {
		return key.Refused
	}
	switch status := e.status(); {
	case status == 0, status >= 500, status == http.StatusTooManyRequests, status == http.StatusProxyAuthRequired:
		return key.Retry
	}
	return key.Refused
}

// status returns the HTTP status of the answer; 0 if there was none.
func (e *tokenError) status() int {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(e.err, &failed) && failed.RawResponse != nil {
		return failed.RawResponse.StatusCode
	}
	return 0
}

func (e *tokenError) hint() string {
	var ended *hasEnded
	if errors.As(e.err, &ended) {
		return "write a renewed certificate, registered with the application, into the file: keyd reads it again " +
			"by itself; a systemd credential is a copy made when keyd starts: systemctl restart keyd"
	}
	if e.status() == http.StatusProxyAuthRequired {
		return "a proxy stands between keyd and the endpoint that issues tokens: add the endpoint's host to " +
			"NO_PROXY in keyd's environment"
	}
	if refusal := new(proxyRefusal); errors.As(e.cause, &refusal) {
		return refusal.hint()
	}
	return e.advice
}
