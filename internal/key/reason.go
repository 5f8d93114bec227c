package key

import (
	"errors"
	"net/http"
)

// Reason says why a vault or the HSM did not do what keyd asked. The set is closed, so it can label a metric. Reasons
// are spelled like Key Vault's inner error code where there is one.
type Reason string

// The reasons.
const (
	ForbiddenByRBAC     Reason = "ForbiddenByRbac"
	ForbiddenByPolicy   Reason = "ForbiddenByPolicy"
	ForbiddenByFirewall Reason = "ForbiddenByFirewall"
	Forbidden           Reason = "Forbidden" // 403 for any other cause
	KeyDisabled         Reason = "KeyDisabled"
	KeyExpired          Reason = "KeyExpired"
	KeyNotYetValid      Reason = "KeyNotYetValid"
	OperationForbidden  Reason = "KeyOperationForbidden"
	KeyNotFound         Reason = "KeyNotFound"
	KeyDeleted          Reason = "ObjectIsDeletedButRecoverable"
	KeyBeingDeleted     Reason = "ObjectIsBeingDeleted"
	Unauthorized        Reason = "Unauthorized"
	Throttled           Reason = "Throttled"
	ServiceError        Reason = "ServiceError" // 5xx
	NoToken             Reason = "NoToken"      // the sign-in failed
	NoAnswer            Reason = "NoAnswer"     // network, DNS, TLS, proxy, time-out
	ProxyRefused        Reason = "ProxyRefused" // the proxy refused the connection: nothing was sent
	BadAnswer           Reason = "BadAnswer"    // the answer makes no sense
	HSMFailed           Reason = "HSM"          // the HSM side did not answer
	OtherReason         Reason = "Other"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		ForbiddenByRBAC, ForbiddenByPolicy, ForbiddenByFirewall, Forbidden, KeyDisabled, KeyExpired, KeyNotYetValid,
		OperationForbidden, KeyNotFound, KeyDeleted, KeyBeingDeleted, Unauthorized, Throttled, ServiceError,
		NoToken, NoAnswer, ProxyRefused, BadAnswer, HSMFailed, OtherReason,
	}
}

// ReasonOf returns the reason of the first error in err's chain that has one, OtherReason if none has, and "" for
// nil.
func ReasonOf(err error) Reason {
	if err == nil {
		return ""
	}
	var r interface{ Reason() Reason }
	if errors.As(err, &r) {
		return r.Reason()
	}
	return OtherReason
}

// ReasonOfStatus is the reason that the status of an HTTP answer gives, where nothing says more.
func ReasonOfStatus(status int) Reason {
	switch {
	case status == http.StatusUnauthorized:
		return Unauthorized
	case status == http.StatusForbidden:
		return Forbidden
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 500:
		return ServiceError
	}
	return OtherReason
}

// OfVersion reports whether a vault gives this reason about the version itself: then consumers fail as keyd does. Any
// other reason is about the HSM, the way to the vault, or what keyd may do there.
func (r Reason) OfVersion() bool {
	switch r {
	case KeyDisabled, KeyExpired, KeyNotYetValid, OperationForbidden, KeyNotFound, KeyDeleted, KeyBeingDeleted:
		return true
	}
	return false
}

// BeforeKeys reports whether keyd did not get as far as the vault's keys: the reason then says nothing of any key.
func (r Reason) BeforeKeys() bool {
	switch r {
	case NoToken, NoAnswer, ProxyRefused, ForbiddenByFirewall:
		return true
	}
	return false
}
