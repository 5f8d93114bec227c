package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// Code says what went wrong on the HSM side. It travels through the protocol.
type Code string

// The codes.
const (
	NotFound Code = "not-found" // no object has this CKA_ID
	Exists   Code = "exists"    // an object already has this CKA_ID
	// TokenChanged: a pair that must be on the token is not. Was it wiped, or exchanged?
	TokenChanged Code = "token-changed"

	Incomplete Code = "incomplete"  // not exactly one pair as keyd makes it
	Foreign    Code = "foreign"     // the label is not this instance's
	NotPending Code = "not-pending" // the pair may have left the HSM: never destroyed
	KEKRefused Code = "kek-refused" // the KEK is not trusted, or unsuitable
	// NotPermitted: the configuration, as the HSM side reads it, does not permit the call.
	NotPermitted Code = "not-permitted"

	// ChainBroken: the audit chain does not continue what the audit key signed.
	ChainBroken Code = "chain-broken"

	PINRefused Code = "pin-refused" // the token refused the PIN: keyd does not try it again
	Unable     Code = "unable"      // no mechanism passed the self-test
	Policy     Code = "policy"      // the token's policy forbids the call
	Busy       Code = "busy"        // no free session within the deadline
	Late       Code = "late"        // the deadline of the effect was over before it began
	Hung       Code = "hung"        // a call passed its deadline: the process ends
	Device     Code = "device"      // the token or library failed: the process ends
	Connection Code = "connection"  // the HSM process cannot be reached
	BadRequest Code = "bad-request" // the request makes no sense
	Internal   Code = "internal"    // anything else
)

// Error is an error of the HSM side.
type Error struct {
	Code    Code
	Message string // what happened and what to do; never holds a secret
	class   key.Class
	err     error
}

func (e *Error) Error() string { return e.Message }

// Class says what the error means for the next decision.
func (e *Error) Class() key.Class { return e.class }

func (e *Error) Unwrap() error { return e.err }

// IsCode reports whether err is an HSM error with this code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

func refused(code Code, format string, args ...any) *Error {
	return newError(code, key.Refused, format, args...)
}

func newError(code Code, class key.Class, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), class: class, err: err}
}

// ckr returns the return value of a failed PKCS#11 call. ok is false for other errors.
func ckr(err error) (code pkcs11.Error, ok bool) {
	ok = errors.As(err, &code)
	return code, ok
}

func isCKR(err error, codes ...uint) bool {
	got, ok := ckr(err)
	if !ok {
		return false
	}
	for _, c := range codes {
		if uint(got) == c {
			return true
		}
	}
	return false
}

// sessionLost: the session is lost; another session may still work.
func sessionLost(err error) bool {
	return isCKR(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_OPERATION_ACTIVE)
}

// handleLost: the caller must find the object again. NSS returns KEY_TYPE_INCONSISTENT for it.
func handleLost(err error) bool {
	return isCKR(
		err, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
	)
}

// lacksType: the module does not know one of the attributes that were read, or its object has none.
func lacksType(err error) bool {
	return isCKR(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID)
}

// perhapsBusy: a module that cannot make two pairs at once may say so with any of these.
func perhapsBusy(err error) bool {
	return isCKR(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_CANT_LOCK, pkcs11.CKR_FUNCTION_CANCELED)
}

// moduleLost: only C_Initialize in a new process helps.
func moduleLost(err error) bool {
	return tokenLost(err) ||
		isCKR(err, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED)
}

// tokenLost: the process no longer has the token, or the login, whatever the call was about. It logs in only once.
func tokenLost(err error) bool {
	return isCKR(err, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
		pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_TOKEN_NOT_RECOGNIZED)
}

// pinRefused: the token rejected the PIN. Each further try brings the lock closer.
func pinRefused(err error) bool {
	return isCKR(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE,
		pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED)
}

// forbidden: the token's policy, profile or memory does not allow the call, and a retry would not help.
func forbidden(err error) bool {
	return isCKR(err, pkcs11.CKR_KEY_UNEXTRACTABLE, pkcs11.CKR_KEY_NOT_WRAPPABLE, pkcs11.CKR_MECHANISM_INVALID,
		pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_BUFFER_TOO_SMALL, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID,
		pkcs11.CKR_WRAPPING_KEY_SIZE_RANGE, pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT, pkcs11.CKR_KEY_SIZE_RANGE,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY,
		pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_FUNCTION_NOT_SUPPORTED)
}

// classify turns the error of an operation into an Error. unsure is the class to use if the outcome is open.
func classify(op string, err error, unsure key.Class) error {
	var own *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return err
	case forbidden(err):
		return refused(
			Policy, "%s: the token does not allow it: %w; look at the token's policy and at `keyd check`", op, err,
		)
	case moduleLost(err) || sessionLost(err):
		return newError(Device, unsure, "%s: %w; the HSM process ends and is started again", op, err)
	default:
		return newError(Internal, unsure, "%s: %w", op, err)
	}
}
