package emulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// caller is the identity of a token.
type caller struct {
	Identity
	clientID, objectID, issuer string
}

// String is how the service's messages name a caller.
func (c caller) String() string {
	return fmt.Sprintf("appid=%s;oid=%s;iss=%s", c.clientID, c.objectID, c.issuer)
}

// claimsRequest is what a claims challenge makes a client request from the token
// service (continuous access evaluation): a token not valid before a time.
type claimsRequest struct {
	AccessToken struct {
		NotBefore struct {
			Essential bool   `json:"essential"`
			Value     string `json:"value"` // Unix seconds
		} `json:"nbf"`
	} `json:"access_token"`
}

// RevokeTokens revokes all tokens of an identity issued so far. A vault answers them
// with a claims challenge, until a token arrives that was requested with the
// challenge's claims or issued in a later second.
func (e *Emulator) RevokeTokens(clientID string) {
	e.identities.mu.Lock()
	defer e.identities.mu.Unlock()
	e.identities.revoked[fold(clientID)] = e.opts.Now()
}

// voided returns the time until which a caller's tokens are revoked, if its token is.
func (d *identities) voided(t tokenClaims) (time.Time, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	at, ok := d.revoked[fold(t.AppID)]
	if !ok || t.AskedNotBefore >= at.Unix() || t.IssuedAt.Unix() > at.Unix() {
		return time.Time{}, false
	}
	return at, true
}

// authenticate returns the caller of a request, or the answer that refuses it.
func (e *Emulator) authenticate(r *http.Request, v *Vault) (caller, *answer) {
	t, err := e.signer.check(r.Header.Get("Authorization"), e.opts.TenantID, v.audience(), e.opts.Now())
	if err != nil {
		a := v.unauthorized(e.opts.TenantID, err)
		return caller{Identity: Identity{Address: unknownAddress()}}, &a
	}
	who := caller{Identity: e.identities.get(t.AppID), clientID: t.AppID, objectID: t.ObjectID, issuer: t.Issuer}
	if at, void := e.identities.voided(t); void {
		a := v.unauthorized(e.opts.TenantID,
			fmt.Errorf("the token was issued before the identity's sessions were revoked"))
		a.challenge = v.claimsChallenge(e.opts.TenantID, at)
		return who, &a
	}
	return who, nil
}

func (v *Vault) claimsChallenge(tenant string, at time.Time) string {
	return fmt.Sprintf("Bearer authorization=%q, resource=%q, error=%q, claims=%q",
		"https://"+loginHost+"/"+tenant, v.audience(), "insufficient_claims", claimsAfter(at))
}

// claimsAfter returns the claims that request a token not valid before at.
func claimsAfter(at time.Time) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil,
		`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, at.Unix()))
}

// askedNotBefore parses a token request's claims parameter; 0 if it sets no such time.
func askedNotBefore(claims string) int64 {
	var q claimsRequest
	if err := json.Unmarshal([]byte(claims), &q); err != nil {
		return 0
	}
	at, err := strconv.ParseInt(q.AccessToken.NotBefore.Value, 10, 64)
	if err != nil {
		return 0
	}
	return at
}
