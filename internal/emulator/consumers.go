package emulator

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// consumerTick is how often, in real time, the emulator checks for due consumers.
const consumerTick = 100 * time.Millisecond

// Consumers are the Azure resources that encrypt under keys of the vaults.
func (e *Emulator) Consumers() *arm.Service { return e.consumers }

// newConsumers needs the proxy's address: consumers call vaults through it, like every
// other client.
func (e *Emulator) newConsumers() {
	e.consumers = arm.New(arm.Config{
		Client: &http.Client{Transport: e.Transport(), Timeout: 30 * time.Second},
		Now:    e.opts.Now, TimeScale: e.opts.ConsumerSpeed, TenantID: e.opts.TenantID,
		PageSize: e.opts.ResourcePage, Trust: e.identities.trust, Logger: e.log,
		Enforce: e.opts.ResourceRoles, RoleDelay: e.opts.RoleDelay,
		Vaults: e.vaultResources, VaultRoles: e.vaultRoles,
	})
	e.defineVaultRoles()
}

// checkConsumers refuses consumers whose key is in none of the emulator's vaults.
func (e *Emulator) checkConsumers() error {
	for _, w := range e.opts.Consumers {
		if e.Vault(w.VaultHost()) == nil {
			return fmt.Errorf("consumer %s: there is no vault %s", w, w.VaultHost())
		}
	}
	return nil
}

// startConsumers creates the configured consumers and, until Close, makes due ones look
// for new versions.
func (e *Emulator) startConsumers() {
	e.running.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, w := range e.opts.Consumers {
			if err := e.consumers.Make(ctx, w); err != nil {
				e.log.Info("a consumer cannot use its key yet", "error", err)
			}
		}
		if e.opts.ConsumersByHand {
			return
		}
		tick := time.NewTicker(consumerTick)
		defer tick.Stop()
		for {
			select {
			case <-e.done:
				return
			case <-tick.C:
				e.consumers.Poll(ctx)
			}
		}
	})
}

// serveResources answers one call to Resource Manager.
func (e *Emulator) serveResources(w http.ResponseWriter, r *http.Request) {
	c := call{host: arm.Host, method: r.Method, operation: opResource, key: arm.NameIn(r.URL.Path)}
	if arm.IsGraph(r.URL.Path) {
		c.operation, c.refused = opGraph, arm.GraphQuota(0)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		e.write(w, r, c, errorAnswer(badParameter("reading the body: %v", err)), fault{})
		return
	}
	who, refusal := e.authenticateForResources(r)
	if refusal != nil {
		e.write(w, r, c, *refusal, fault{})
		return
	}
	c.challenge = e.resourceChallenge("invalid_token")
	e.act(w, r, c, func(fault) answer {
		got := e.consumers.Handle(r.Context(),
			arm.Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Body: body,
				IfMatch: r.Header.Get("If-Match"), Caller: who.AppID})
		return answer{status: got.Status, body: got.Body, header: got.Header}
	})
}

// authenticateForResources accepts any identity: everyone owns the subscription.
func (e *Emulator) authenticateForResources(r *http.Request) (tokenClaims, *answer) {
	var err error
	for _, audience := range []string{"https://" + arm.Host, "https://management.core.windows.net"} {
		var t tokenClaims
		if t, err = e.signer.check(r.Header.Get("Authorization"), e.opts.TenantID, audience, e.opts.Now()); err != nil {
			continue
		}
		if at, void := e.identities.voided(t); void {
			challenge := e.resourceChallenge("insufficient_claims") + fmt.Sprintf(", claims=%q", claimsAfter(at))
			return t, resourceRefusal(challenge, "the identity's sessions were revoked")
		}
		return t, nil
	}
	return tokenClaims{}, resourceRefusal(e.resourceChallenge("invalid_token"), err.Error())
}

// resourceChallenge is Resource Manager's; RFC 6750 has its errors.
func (e *Emulator) resourceChallenge(why string) string {
	return fmt.Sprintf("Bearer authorization_uri=%q, error=%q, error_description=%q",
		"https://"+loginHost+"/"+e.opts.TenantID, why, "The access token is missing or is not accepted.")
}

func resourceRefusal(challenge, why string) *answer {
	return &answer{
		status: http.StatusUnauthorized, challenge: challenge,
		failure: &apiError{code: "AuthenticationFailed", message: "Authentication failed: " + why},
	}
}
