package emulator

import (
	"bytes"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

const releaseContentType = "application/json; charset=utf-8"

// normalized returns a request's release policy as the service stores it; nil stays
// nil.
func (p *releasePolicy) normalized() *releasePolicy {
	if p == nil {
		return nil
	}
	kept := *p
	if kept.ContentType == "" {
		kept.ContentType = releaseContentType
	}
	return &kept
}

// repolicy changes the release policy, unless it was made to stay.
func (ver *version) repolicy(p *releasePolicy) error {
	if p == nil {
		return nil
	}
	if old := ver.release; old != nil && old.Immutable && (!bytes.Equal(old.Data, p.Data) || !p.Immutable) {
		return badParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")
	}
	ver.release = p.normalized()
	return nil
}

// released is the payload of a release's JWS.
type released struct {
	Response struct {
		Key struct {
			Key keyBundle `json:"key"`
		} `json:"key"`
	} `json:"response"`
	jwt.RegisteredClaims
}

// release answers in the real form, without the private key: the emulator judges no
// attestation, and so gives a key to nobody.
func (v *Vault) release(t target, q releaseRequest) (any, error) {
	k, ver, err := v.replica().version(t.key, t.version)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Target == "":
		return nil,
			badParameter("The request has no target: an attestation of the environment to which the key is released.")
	case !ver.exportable || ver.release == nil:
		return nil, forbidden("KeyOperationForbidden", "Operation release is not permitted on this key.")
	case !ver.enabled:
		return nil, forbidden("KeyDisabled", "Operation release is not allowed on a disabled key.")
	}
	var payload released
	payload.Response.Key.Key = v.bundle(k.name, ver)
	payload.IssuedAt = jwt.NewNumericDate(v.opts.Now())
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, payload).SignedString(v.signer)
	if err != nil {
		return nil, fmt.Errorf("signing the release of %s: %w", k.name, err)
	}
	return releaseResult{text}, nil
}

const mostRandom = 128 // bytes

// random is a Managed HSM's alone.
func (v *Vault) random(count int) (any, error) {
	if v.config.Profile != ManagedHSM {
		return nil, badParameter("Random bytes need a Managed HSM.")
	}
	if count < 1 || count > mostRandom {
		return nil, badParameter("GetRandomBytesRequest: count cannot be greater than %d or less than 1", mostRandom)
	}
	b, err := randomBytes(count)
	return backupBody{b}, err
}
