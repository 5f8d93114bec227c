package arm

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is a refusal in Resource Manager's shape: {"error":{"code","message"}}.
type Error struct {
	Status  int // of HTTP
	Code    string
	Message string
	Details []Detail
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Detail is what is inside "error".
type Detail struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []Detail `json:"details,omitempty"`
}

func (e *Error) detail() Detail { return Detail{e.Code, e.Message, e.Details} }

func refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func badKey(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "BadRequest", format, args...)
}

// VaultError is a vault's error answer to a consumer.
type VaultError struct {
	Call    string // get, wrapkey or unwrapkey
	Key     string // its identifier
	Status  int
	Code    string
	Inner   string // "" when there is none
	Message string
}

func (e *VaultError) Error() string {
	code := e.Code
	if e.Inner != "" {
		code += " (" + e.Inner + ")"
	}
	return fmt.Sprintf("%s of %s: %d %s: %s", e.Call, e.Key, e.Status, code, e.Message)
}

// keyRefused is how a service reports that it cannot use a key. Microsoft documents
// KeyVaultPolicyError; the other codes are made up in its likeness.
func keyRefused(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var vault *VaultError
	code := "KeyVaultErrors"
	if errors.As(err, &vault) {
		switch vault.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			code = "KeyVaultAccessForbidden"
		case http.StatusNotFound:
			code = "KeyVaultKeyNotFound"
		}
	}
	return refuse(http.StatusBadRequest, code, "The key vault key cannot be used: %v", err)
}
