package emulator

import (
	"fmt"
	"net/http"
)

// apiError is an error in the service's shape:
// {"error":{"code","message","innererror":{"code"}}}.
type apiError struct {
	status  int
	code    string
	inner   string
	message string

	missing *missing // of a 404: the services name it differently
}

// missing is a key or key version that does not exist.
type missing struct{ name, version string }

func (e *apiError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.code, e.message) }

// wire is the error's body; a Managed HSM adds the activity id to the message.
func (e *apiError) wire(activityID string) any {
	d := errorDetail{Code: e.code, Message: e.message}
	if activityID != "" {
		d.Message += " (Activity ID: " + activityID + ")"
	}
	if e.inner != "" {
		d.Inner = &errorInner{Code: e.inner}
	}
	return errorBody{Error: d}
}

func badParameter(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "BadParameter", message: fmt.Sprintf(format, args...)}
}

func keyNotFound(name, version string) *apiError {
	return &apiError{
		status: http.StatusNotFound, code: "KeyNotFound",
		message: "There is no key " + name, missing: &missing{name, version},
	}
}

// notFound is the service's own error for a missing key or version.
func (v *Vault) notFound(t target, m missing) string {
	ofDeleted := t.operation == opGetDeleted || t.operation == opPurge || t.operation == opRecover
	id := m.name
	if m.version != "" {
		id += "/" + m.version
	} else if t.operation == opGet && t.version != "" {
		id += "/" + t.version
	}
	switch {
	case v.config.Profile == ManagedHSM && ofDeleted:
		return "Key not found: " + v.id("deletedkeys", m.name)
	case v.config.Profile == ManagedHSM && t.operation == opRotate:
		return "Key not found: Key not found: " + v.id("keys", id)
	case v.config.Profile == ManagedHSM:
		return "Key not found: " + v.id("keys", id)
	case ofDeleted && t.operation != opRecover:
		return "Deleted Key not found: " + m.name
	}
	return fmt.Sprintf("A key with (name/id) %s was not found in this key vault. If you recently deleted this key "+
		"you may be able to recover it using the correct recovery command. For help resolving this issue, please see "+
		"https://go.microsoft.com/fwlink/?linkid=2125182", id)
}

// badName is the service's own error for an invalid key name.
func (v *Vault) badName(name string) *apiError {
	if v.config.Profile == ManagedHSM {
		return badParameter("Invalid key identifier or name")
	}
	return badParameter("The request URI contains an invalid name: %s", name)
}

func forbidden(inner, format string, args ...any) *apiError {
	return &apiError{status: http.StatusForbidden, code: "Forbidden", inner: inner,
		message: fmt.Sprintf(format, args...)}
}

func conflict(inner, format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, code: "Conflict", inner: inner, message: fmt.Sprintf(format, args...)}
}

// codeFor returns the service's outer code for a status, for rules without a code.
func codeFor(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "BadParameter"
	case http.StatusUnauthorized:
		return "Unauthorized"
	case http.StatusForbidden:
		return "Forbidden"
	case http.StatusNotFound:
		return "KeyNotFound"
	case http.StatusConflict:
		return "Conflict"
	case http.StatusTooManyRequests:
		return "Throttled"
	case http.StatusServiceUnavailable:
		return "ServiceUnavailable"
	default:
		return "InternalServerError"
	}
}
