package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// Error is a failed look at a resource, or a failed search.
type Error struct {
	What      string // that was asked, for people: "storage account stcmkdemo: list its encryption scopes"
	ID        string // of the resource; "": it is about none
	Status    int    // of HTTP; 0 if keyd understood no answer
	Code      string // of Azure, such as "AuthorizationFailed"
	Message   string // of Azure, in one line and truncated
	Hint      string // what to do; it may be empty
	RequestID string // x-ms-request-id, for Microsoft's support

	err error
	// said: it is what the resource itself says is wrong with it, and keyd saw it.
	said bool
	// part: it is about a part of the resource, and says nothing of the resource itself.
	part bool
}

// Error is one line: which resource, what was tried, what happened, what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.What + ": ")
	b.WriteString(outcome(e.Status, e.Code, e.Message, e.err))
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return b.String()
}

// outcome says what Azure answered, or why there was no answer.
func outcome(status int, code, message string, err error) string {
	if status == 0 {
		return vault.OneLine(err.Error())
	}
	text := fmt.Sprintf("HTTP %d", status)
	if code != "" {
		text += " " + code
	}
	if message != "" {
		text += ": " + message
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// CauseOf tells apart why looks fail: two that failed for the same cause, such as a failed sign-in or an Azure that
// does not answer, have the same one, whatever they are about.
func CauseOf(err error) string {
	var e *Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusTooManyRequests || e.Status >= 500 {
		return fmt.Sprintf("HTTP %d %s", e.Status, e.Code)
	}
	if e.Status != 0 || e.err == nil {
		return e.Error()
	}
	var sent *url.Error
	if errors.As(e.err, &sent) {
		return sent.Err.Error()
	}
	return e.err.Error()
}

// isSaid reports whether an error is what a resource itself says is wrong with it.
func isSaid(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.said
}

// badAnswer is a complete answer that makes no sense.
type badAnswer struct{ what string }

func (e *badAnswer) Error() string { return "the answer makes no sense: " + e.what }

func badAnswerf(format string, args ...any) error { return &badAnswer{fmt.Sprintf(format, args...)} }

// fail makes an *Error of whatever kept a call from succeeding.
func (k call) fail(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	e := &Error{What: k.what(), ID: k.id, err: err, part: k.part != "" || k.child}
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		e.fill(response)
	}
	e.Hint = k.hint(e)
	return e
}

func (k call) what() string {
	what := k.about() + ": " + k.op.words
	if k.part != "" {
		what = k.about() + ": list its " + k.part
	}
	return what
}

// fill copies Azure's answer: {"error":{"code","message"}}.
func (e *Error) fill(r *azcore.ResponseError) {
	e.Status, e.Code = r.StatusCode, vault.OneLine(r.ErrorCode)
	if r.RawResponse == nil {
		return
	}
	e.RequestID = vault.OneLine(r.RawResponse.Header.Get("x-ms-request-id"))
	body, err := runtime.Payload(r.RawResponse) // the SDK has already downloaded it
	if err != nil {
		return
	}
	var wire struct {
		Error struct{ Code, Message string }
	}
	if json.Unmarshal(body, &wire) == nil && wire.Error.Code != "" {
		e.Code, e.Message = vault.OneLine(wire.Error.Code), vault.OneLine(wire.Error.Message)
	}
}

// hint says what an operator can do about e; "" if keyd knows no advice.
func (k call) hint(e *Error) string {
	switch {
	case e.Status == 0:
		return vault.Advice(e.err)
	case e.Status == http.StatusForbidden && k.sent != nil && e.Code != "":
		return "let keyd's identity change it, then: keyd repoint KEY " + word(service.NameOf(k.id)) + "; " +
			roleCommand("keyd repoint", k.id)
	case e.Status == http.StatusForbidden && k.sent == nil:
		scope := k.id
		if scope == "" {
			scope = "/subscriptions/ID"
		}
		return "let keyd's identity look there; a new assignment takes a few minutes to work: " + readerCommand(scope)
	case e.Status == http.StatusNotFound && service.TypeOf(k.id) != "":
		return "if the resource is gone for good, take it out of consumers: in keyd's configuration; " +
			"if not, mend its id there"
	case e.Status == http.StatusUnauthorized:
		return "Azure did not accept the token: check that the credential belongs to the tenant of the subscription " +
			"(azure.tenant_id), azure.cloud, and this machine's clock"
	case e.Status == http.StatusTooManyRequests:
		return "Azure throttles keyd's requests; keyd looks again by itself"
	case e.Code == "":
		return "the answer is not in Azure's form: is a proxy answering in its place? Check HTTPS_PROXY and NO_PROXY"
	}
	return ""
}

// readerCommand is the az command that lets keyd look.
func readerCommand(scope string) string { return roleCommand("Reader", scope) }

// roleCommand is the az command that gives keyd a role.
func roleCommand(role, scope string) string {
	if strings.Contains(role, " ") {
		role = `"` + role + `"`
	}
	return "az role assignment create --role " + role + " --assignee-object-id OBJECT_ID " +
		`--assignee-principal-type ServicePrincipal --scope ` + inQuotes(scope) + ` (keyd check shows the object id)`
}
