package vault

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// NoToken says that Azure gave keyd no token for an audience when keyd last asked. A token that the SDK still has is a
// success: keyd can work.
type NoToken struct {
	Audience string    // such as https://vault.azure.net
	OfVaults bool      // vaults want the token; otherwise Resource Manager or Log Analytics does
	Since    time.Time // when the first of these sign-ins in a row failed
	Err      error     // why the last one failed; Advice knows more
}

// audiences are those without a token, by name.
type audiences map[string]NoToken

// note keeps how a sign-in ended, and reports whether that changed what is known. One that its caller gave up shows
// nothing. Once a sign-in works again, what failed before it is old news: keyd asks for consumers once an hour only.
func (a audiences) note(
	ctx context.Context, o policy.TokenRequestOptions, ofVaults bool, at time.Time, err error,
) bool {
	name := strings.TrimSuffix(strings.Join(o.Scopes, " "), "/.default")
	before, failed := a[name]
	switch {
	case err == nil && !failed, err != nil && errors.Is(ctx.Err(), context.Canceled):
		return false
	case err == nil:
		clear(a)
		return true
	case failed:
		at = before.Since
	}
	a[name] = NoToken{Audience: name, OfVaults: ofVaults, Since: at, Err: err}
	return !failed
}

// list has the longest without a token first.
func (a audiences) list() []NoToken {
	return slices.SortedFunc(maps.Values(a), func(x, y NoToken) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Audience, y.Audience))
	})
}
