package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/words"
)

// identity shows as whom keyd signs in for each kind of vault, and warns of a proxy in front of the endpoint that
// issues tokens.
func (c *checker) identity(ctx context.Context) {
	c.certificate()
	kind := c.Config.Azure.Credential
	var signedIn error
	tried := map[key.VaultKind]bool{}
	for _, v := range c.Config.Vaults {
		client := c.Vaults(v.URL)
		if client == nil || tried[v.Kind] || !c.tries(v.URL) {
			continue
		}
		tried[v.Kind] = true
		who, err := client.Identity(ctx)
		c.add("identity", kind, "sign in for "+service(v.Kind), err, who.String(), "")
		c.own = cmp.Or(c.own, who.ObjectID)
		signedIn = errors.Join(signedIn, err)
		c.away.signIn[v.Kind] = err != nil
	}
	if slices.Contains([]string{vault.ManagedIdentity, vault.DefaultCredential}, kind) {
		c.proxy(kind, signedIn)
	}
}

func service(k key.VaultKind) string {
	if k == key.ManagedHSM {
		return "Managed HSMs"
	}
	return "Key Vaults"
}

func (c *checker) proxy(kind string, signedIn error) {
	const name = "proxy before the endpoint"
	endpoint, proxy, err := vault.ProxyBeforeIdentity()
	remedy := "add " + endpoint + " to NO_PROXY in keyd's environment (systemctl edit keyd), then restart it"
	switch {
	case err != nil:
		c.add("identity", kind, name, err, "", "correct them in keyd's environment (systemctl edit keyd)")
	case proxy == "":
		c.add("identity", kind, name, nil, "none: "+endpoint+" is asked directly", "")
	case signedIn != nil:
		c.line(status.CheckFailed, "identity", kind, name,
			fmt.Sprintf("requests for a token to %s go through the proxy %s, and the sign-in failed", endpoint,
				proxy), remedy)
	default:
		c.warn("identity", kind, name,
			fmt.Sprintf("requests for a token to %s go through the proxy %s, which sees the tokens", endpoint, proxy),
			remedy)
	}
}

// certificate checks the client certificate or the federated token.
func (c *checker) certificate() {
	state := c.Credential
	name := "client certificate"
	if state.Kind != vault.ClientCertificate {
		name = "federated token"
	}
	left := time.Until(state.Ends)
	switch {
	case state.Err != nil:
		c.line(status.CheckFailed, "identity", state.Kind, name, state.Err.Error(),
			state.Fix())
	case state.Ends.IsZero():
	case left <= 0:
		c.line(status.CheckFailed, "identity", state.Kind, name, state.File+" ended at "+words.Moment(state.Ends),
			state.Renew())
	case left < c.CertificateSoon:
		c.warn("identity", state.Kind, name, state.File+" ends at "+words.Moment(state.Ends), state.Renew())
	default:
		c.add("identity", state.Kind, name, nil, state.File+" ends at "+words.Moment(state.Ends), "")
	}
}
