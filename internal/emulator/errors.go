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
}

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

func keyNotFound(name string) *apiError {
	return &apiError{
		status: http.StatusNotFound, code: "KeyNotFound",
		message: fmt.Sprintf("A key with (name/id) %s was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command.", name),
	}
}

func forbidden(inner, format string, args ...any) *apiError {
	return &apiError{status: http.StatusForbidden, code: "Forbidden", inner: inner, message: fmt.Sprintf(format, args...)}
}

func conflict(inner, format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, code: "Conflict", inner: inner, message: fmt.Sprintf(format, args...)}
}

// codeFor is the outer code the service gives with a status, for rules that
// name none.
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
