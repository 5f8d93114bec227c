package emulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenSigner issues and verifies access tokens. Its key is fixed, because SDKs cache
// tokens for a whole process: a token from one emulator must be valid at the next. A
// token is therefore not a secret, and only this emulator accepts it.
type tokenSigner struct {
	key *ecdsa.PrivateKey
}

type tokenClaims struct {
	TenantID string `json:"tid"`
	ObjectID string `json:"oid"`
	AppID    string `json:"appid"`
	// AskedNotBefore is the time that the client requested after a claims challenge;
	// Unix seconds.
	AskedNotBefore int64 `json:"asked_nbf,omitempty"`
	jwt.RegisteredClaims
}

func newTokenSigner() (*tokenSigner, error) {
	scalar := sha256.Sum256([]byte("keyvault-emulator token signing key"))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		return nil, fmt.Errorf("deriving the token signing key: %w", err)
	}
	return &tokenSigner{key: key}, nil
}

func (s *tokenSigner) mint(tenant, clientID, audience string, now time.Time, life time.Duration,
	askedNotBefore int64) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, tokenClaims{
		TenantID: tenant,
		ObjectID: clientID,
		AppID:    clientID,

		AskedNotBefore: askedNotBefore,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    "https://sts.windows.net/" + tenant + "/",
			Audience:  jwt.ClaimStrings{audience},
			NotBefore: jwt.NewNumericDate(now.Add(-5 * time.Minute)),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(life)),
		},
	}).SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("signing a token for %s: %w", audience, err)
	}
	return token, nil
}

// noToken is a vault's error for a missing token.
const noToken = "Request is missing a Bearer or PoP token."

// check verifies an Authorization header, or returns why it is not valid for audience.
func (s *tokenSigner) check(header, tenant, audience string, now time.Time) (tokenClaims, error) {
	raw, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return tokenClaims{}, fmt.Errorf("%s", noToken)
	}
	var claims tokenClaims
	_, err := jwt.ParseWithClaims(raw, &claims,
		func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	if err != nil {
		return tokenClaims{}, fmt.Errorf("validating the token for %s: %w", audience, err)
	}
	if claims.TenantID != tenant || claims.IssuedAt == nil {
		return tokenClaims{}, fmt.Errorf("the token is of tenant %q, the vault of tenant %s", claims.TenantID, tenant)
	}
	return claims, nil
}
