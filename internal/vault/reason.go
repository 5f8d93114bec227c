package vault

import (
	"errors"
	"net/http"
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// Reason returns why the vault did not do what keyd asked.
func (e *Error) Reason() key.Reason {
	var token *tokenError
	var bad *badAnswer
	var proxy *proxyRefusal
	var late *term.LateError
	switch {
	case errors.As(e.err, &late):
		return key.OtherReason // the vault was not asked
	case errors.As(e.err, &proxy):
		return key.ProxyRefused
	case errors.As(e.err, &token):
		return key.NoToken
	case errors.As(e.err, &bad):
		return key.BadAnswer
	case e.Status == 0 && e.class == key.Refused:
		return key.OtherReason
	case e.Status == 0:
		return key.NoAnswer
	}
	if inner := key.Reason(e.Inner); slices.Contains(key.Reasons(), inner) {
		return inner
	}
	if e.Status == http.StatusNotFound && e.Code == codeKeyNotFound {
		return key.KeyNotFound
	}
	return key.ReasonOfStatus(e.Status)
}

// Reason is for errors of other clients that sign in and send as this one does.
func (e *tokenError) Reason() key.Reason { return key.NoToken }

// Reason is for errors of other clients that send as this one does.
func (p *proxyRefusal) Reason() key.Reason { return key.ProxyRefused }
