package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/keyd-project/keyd/internal/key"
)

// Error is a failed operation on a vault.
type Error struct {
	Op      string // such as "import key", as an operator reads it
	Vault   string // nickname
	Key     string
	Version string // "" when the operation has none
	// Status is the HTTP status; 0 if keyd understood no answer.
	Status int
	// Code and Inner are the service's outer and inner error codes, such as
	// "Forbidden" and "ForbiddenByRbac".
	Code  string
	Inner string
	// Message is the service's own text, in one line and truncated.
	Message string
	// Hint says what to do; it may be empty.
	Hint      string
	RequestID string // x-ms-request-id, for Microsoft's support

	err   error
	class key.Class
}

// Error is one line: what was tried, where, what happened, what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vault %s: %s", e.Vault, e.Op)
	if e.Key != "" {
		b.WriteString(" " + e.Key)
	}
	if e.Version != "" {
		b.WriteString("/" + e.Version)
	}
	b.WriteString(": ")
	b.WriteString(e.cause())
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

func (e *Error) cause() string {
	if e.Status == 0 {
		return oneLine(e.err.Error())
	}
	text := fmt.Sprintf("HTTP %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Inner != "" {
		text += " (" + e.Inner + ")"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Unwrap returns the SDK's or transport's error.
func (e *Error) Unwrap() error { return e.err }

// Class says what the failure means for the caller (see key.Class).
func (e *Error) Class() key.Class { return e.class }

// IsNotFound reports whether the vault itself said that it has no such key or version. A 404 in any other form, such
// as a proxy's, does not count.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Code == codeKeyNotFound
}

// The service's error codes that decide keyd's reaction or its hint.
const (
	codeKeyNotFound            = "KeyNotFound"
	innerByRBAC                = "ForbiddenByRbac"
	innerByPolicy              = "ForbiddenByPolicy"
	innerByFirewall            = "ForbiddenByFirewall"
	innerKeyDisabled           = "KeyDisabled"
	innerKeyExpired            = "KeyExpired"
	innerKeyNotYetValid        = "KeyNotYetValid"
	innerOperationForbidden    = "KeyOperationForbidden"
	innerDeletedButRecoverable = "ObjectIsDeletedButRecoverable"
	innerBeingDeleted          = "ObjectIsBeingDeleted"
)

// badAnswer is a complete answer that makes no sense.
type badAnswer struct{ what string }

func (e *badAnswer) Error() string { return "the answer makes no sense: " + e.what }

func badAnswerf(format string, args ...any) error {
	return &badAnswer{fmt.Sprintf(format, args...)}
}

// refusal is keyd's own refusal, either of an argument before keyd sends anything or of what a vault shows.
type refusal struct{ what, hint string }

func (e *refusal) Error() string { return e.what }

func refusef(hint, format string, args ...any) error {
	return &refusal{what: fmt.Sprintf(format, args...), hint: hint}
}

// serviceError is the body of an error answer:
// {"error":{"code","message","innererror":{"code"}}}.
type serviceError struct {
	Code, Inner, Message string
}

// parseServiceError reads what it understands of an error body. All fields stay empty for a body in another form.
func parseServiceError(body []byte) serviceError {
	var wire struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &wire); err != nil {
		return serviceError{}
	}
	return serviceError{
		Code:    oneLine(wire.Error.Code),
		Inner:   oneLine(wire.Error.Inner.Code),
		Message: oneLine(wire.Error.Message),
	}
}

const longestMessage = 400 // characters

// oneLine makes text from outside safe for one log line.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > longestMessage {
		s = string(runes[:longestMessage]) + "…"
	}
	return s
}

// fillFromResponse copies the service's answer from an SDK error.
func (e *Error) fillFromResponse(r *azcore.ResponseError, body []byte) {
	e.Status = r.StatusCode
	if r.RawResponse != nil {
		e.RequestID = oneLine(r.RawResponse.Header.Get("x-ms-request-id"))
	}
	s := parseServiceError(body)
	e.Code, e.Inner, e.Message = s.Code, s.Inner, s.Message
	if e.Code == "" {
		e.Code = oneLine(r.ErrorCode)
	}
}
