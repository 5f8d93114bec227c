package vault

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/keyd-project/keyd/internal/key"
)

// hint says what an operator can do about e; "" if keyd knows no advice.
func (c *Client) hint(e *Error, k call) string {
	var refused *refusal
	if errors.As(e.err, &refused) {
		return refused.hint
	}
	if e.Status != 0 {
		return c.statusHint(e, k)
	}
	var token *tokenError
	if errors.As(e.err, &token) {
		return token.hint()
	}
	return transportHint(e.err)
}

func (c *Client) statusHint(e *Error, k call) string {
	switch e.Inner {
	case innerByRBAC:
		return fmt.Sprintf(
			"give keyd's identity the role %q on this vault; a new assignment takes a few minutes to work, and "+
				"keyd keeps trying", c.role(k),
		)
	case innerByPolicy:
		return "the vault uses access policies: give keyd's identity the key permissions get, list, create, " +
			"import, update, recover and those of the key's operations; a new policy takes a few minutes to work, " +
			"and keyd keeps trying"
	case innerByFirewall:
		return "the vault's firewall does not admit this machine: add its address or network to the vault's " +
			"network rules, or reach the vault by a private endpoint"
	case innerKeyDisabled:
		return "the version is disabled; to enable it: " + c.setAttributes(k) + " --enabled true"
	case innerKeyExpired:
		return fmt.Sprintf(
			"the version has expired (exp): nobody can wrap, encrypt or sign with it, and it still unwraps; "+
				"to make a new one: keyd rotate --now %s --reason …; or to give it time: %s --expires DATE", k.key,
			c.setAttributes(k),
		)
	case innerKeyNotYetValid:
		return "the version is not valid yet (nbf): nobody can wrap, encrypt or sign with it before that date, and " +
			"it still unwraps; " +
			"keyd never sets such a date: find out who set it, then: " + c.setAttributes(
			k,
		) + " --not-before 2020-01-01T00:00:00Z"
	case innerOperationForbidden:
		return "the key's operations (key_ops) in the vault do not include this one"
	case innerDeletedButRecoverable:
		return fmt.Sprintf(
			"the key is soft-deleted, and keyd never makes it again; to recover it: az keyvault key recover %s "+
				"--name %s", c.cfg.Vault.AzScope(), k.key,
		)
	case innerBeingDeleted:
		return "the key is being deleted; wait until that has finished, then recover it"
	}
	switch e.Status {
	case http.StatusUnauthorized:
		return "the vault did not accept the token: check that the credential belongs to the vault's tenant " +
			"(azure.tenant_id), and this machine's clock"
	case http.StatusForbidden:
		return fmt.Sprintf(
			"give keyd's identity the role %q on this vault and check the vault's network rules; a new assignment "+
				"takes a few minutes to work, and keyd keeps trying", c.role(k),
		)
	case http.StatusTooManyRequests:
		return "the vault throttles requests; keyd slows down by itself, but other clients share the vault's limits"
	case http.StatusProxyAuthRequired:
		return "a proxy wants credentials: put them into HTTPS_PROXY, or list the vault's host in NO_PROXY"
	}
	if e.Code == "" {
		return "the answer is not in Key Vault's form: is a proxy answering in its place? Check HTTPS_PROXY, " +
			"NO_PROXY and the vault's url"
	}
	return ""
}

// role returns the least privileged built-in role that allows everything keyd does.
func (c *Client) role(k call) string {
	switch {
	case c.cfg.Vault.Kind != key.ManagedHSM:
		return "Key Vault Crypto Officer"
	case k.op.name == opRecover.name || k.op.name == opDeleted.name:
		return "Managed HSM Crypto Officer"
	case k.op.name == opLocalRoles.name: // as shipped, in managed-hsm-look-role.json
		return "keyd look"
	default:
		return "Managed HSM Crypto User"
	}
}

// setAttributes returns the command that changes a version, without the attribute to change.
func (c *Client) setAttributes(k call) string {
	return fmt.Sprintf("az keyvault key set-attributes %s --name %s%s",
		c.cfg.Vault.AzScope(), k.key, azVersion(k.version))
}

func azVersion(version string) string {
	if version == "" {
		return ""
	}
	return " --version " + version
}

func transportHint(err error) string {
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		op        *net.OpError
		proxy     *proxyRefusal
		early     *neverLeft
	)
	switch {
	case errors.As(err, &proxy):
		return proxy.hint()
	case errors.As(err, &authority):
		return "the certificate comes from an authority this machine does not trust; if a proxy inspects TLS here, " +
			"put its CA certificate into azure.ca_file"
	case errors.As(err, &hostname), errors.As(err, &invalid):
		return "the certificate is not good for this vault: check the vault's url, this machine's clock, and any " +
			"proxy in between"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "the proxy cannot be reached: check HTTPS_PROXY, or list the vault's host in NO_PROXY"
	case errors.As(err, &dns):
		return "the name does not resolve: check the vault's url and the private endpoint's DNS zone; behind a " +
			"proxy, set HTTPS_PROXY"
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "the vault cannot be reached: check routes and firewalls to port 443; behind a proxy, set HTTPS_PROXY"
	case errors.As(err, &early):
		return "nothing was sent, because keyd got no connection: check the proxy, if there is one, and " +
			"firewalls that inspect TLS"
	}
	return ""
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
