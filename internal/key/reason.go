package key

import "errors"

// Reason is why a vault or the HSM did not do what it was asked: a closed set, fit
// for a metric's label. Where Key Vault has an inner error code for it, the reason
// is spelled like that.
type Reason string

// The reasons.
const (
	ForbiddenByRBAC     Reason = "ForbiddenByRbac"
	ForbiddenByPolicy   Reason = "ForbiddenByPolicy"
	ForbiddenByFirewall Reason = "ForbiddenByFirewall"
	Forbidden           Reason = "Forbidden" // 403 for none of the causes that have a name
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
	ProxyRefused        Reason = "ProxyRefused" // to open a connection: nothing was sent
	BadAnswer           Reason = "BadAnswer"    // it makes no sense
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

// ReasonOf is the reason of the first error in err's chain that knows one,
// OtherReason when none does, and "" for nil.
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
