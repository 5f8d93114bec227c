package vault

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/key"
)

// Rooms that ask other parts of Azure sign in and connect as the clients of vaults do. They use what is here.

// Tagged marks the errors of a credential, so that Advice knows a failed sign-in.
func Tagged(cred azcore.TokenCredential) azcore.TokenCredential { return taggedCredential{next: cred} }

// Capped bounds the body of every answer.
func Capped(t policy.Transporter) policy.Transporter { return cappedTransport{t} }

// Lasting stops the SDK from repeating a request that would fail again in the same way.
func Lasting(err error) error { return lasting(err) }

// OneLine makes text from outside safe for one log line.
func OneLine(s string) string { return oneLine(s) }

// Advice says what an operator can do about a sign-in or a connection that failed; "" if keyd knows nothing.
func Advice(err error) string {
	var token *tokenError
	if errors.As(err, &token) {
		return token.hint()
	}
	return transportHint(err)
}

// NeverSent reports whether a request to a client of HTTPClient failed before any byte of it could leave.
func NeverSent(err error) bool { return neverSent(err) }

// SignInClass is what a failed sign-in means for the call that needed the token, which was not sent; ok is false for
// another error.
func SignInClass(err error) (class key.Class, ok bool) {
	var token *tokenError
	if !errors.As(err, &token) {
		return key.Ambiguous, false
	}
	return token.class(), true
}
