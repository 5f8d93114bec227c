package emulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// octets travel as unpadded base64url and are accepted in either alphabet,
// padded or not, since real clients send all four.
type octets []byte

func (o octets) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.RawURLEncoding.EncodeToString(o))
}

func (o *octets) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("expected a base64url string: %w", err)
	}
	b, err := decodeBase64(s)
	if err != nil {
		return err
	}
	*o = b
	return nil
}

func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not base64url: %w", err)
	}
	return b, nil
}

type jsonWebKey struct {
	KID    string   `json:"kid,omitempty"`
	Kty    string   `json:"kty"`
	KeyOps []string `json:"key_ops,omitempty"`
	N      octets   `json:"n,omitempty"`
	E      octets   `json:"e,omitempty"`
	D      octets   `json:"d,omitempty"`
	DP     octets   `json:"dp,omitempty"`
	DQ     octets   `json:"dq,omitempty"`
	QI     octets   `json:"qi,omitempty"`
	P      octets   `json:"p,omitempty"`
	Q      octets   `json:"q,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	X      octets   `json:"x,omitempty"`
	Y      octets   `json:"y,omitempty"`
	K      octets   `json:"k,omitempty"`
	KeyHSM octets   `json:"key_hsm,omitempty"`
}

// attributes: times are whole Unix seconds.
type attributes struct {
	Enabled         *bool  `json:"enabled,omitempty"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created,omitempty"`
	Updated         int64  `json:"updated,omitempty"`
	RecoveryLevel   string `json:"recoveryLevel,omitempty"`
	RecoverableDays int    `json:"recoverableDays,omitempty"`
	Exportable      *bool  `json:"exportable,omitempty"`
	HSMPlatform     string `json:"hsmPlatform,omitempty"`

	Attestation *attestation `json:"attestation,omitempty"`
}

type keyBundle struct {
	Key           jsonWebKey        `json:"key"`
	Attributes    attributes        `json:"attributes"`
	Tags          map[string]string `json:"tags,omitzero"`
	ReleasePolicy *releasePolicy    `json:"release_policy,omitempty"`
}

// releasePolicy is the policy for releasing an exportable key.
type releasePolicy struct {
	ContentType string `json:"contentType"`
	Data        octets `json:"data"`
	Immutable   bool   `json:"immutable"`
}

type deletedBundle struct {
	RecoveryID         string `json:"recoveryId"`
	DeletedDate        int64  `json:"deletedDate"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate"`
	keyBundle
}

type keyItem struct {
	KID        string            `json:"kid"`
	Attributes attributes        `json:"attributes"`
	Tags       map[string]string `json:"tags,omitzero"`
}

type deletedItem struct {
	RecoveryID         string `json:"recoveryId"`
	DeletedDate        int64  `json:"deletedDate"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate"`
	keyItem
}

type createRequest struct {
	Kty            string            `json:"kty"`
	KeySize        int               `json:"key_size"` // bits
	PublicExponent int               `json:"public_exponent"`
	Crv            string            `json:"crv"`
	KeyOps         []string          `json:"key_ops"`
	Attributes     attributes        `json:"attributes"`
	Tags           map[string]string `json:"tags"`
	ReleasePolicy  *releasePolicy    `json:"release_policy"`
}

type importRequest struct {
	HSM           bool              `json:"Hsm"`
	Key           jsonWebKey        `json:"key"`
	Attributes    attributes        `json:"attributes"`
	Tags          map[string]string `json:"tags"`
	ReleasePolicy *releasePolicy    `json:"release_policy"`
}

// updateRequest changes only fields that are not nil.
type updateRequest struct {
	KeyOps        []string          `json:"key_ops"`
	Attributes    attributes        `json:"attributes"`
	Tags          map[string]string `json:"tags"`
	ReleasePolicy *releasePolicy    `json:"release_policy"`
}

type operationRequest struct {
	Algorithm string `json:"alg"`
	Value     octets `json:"value"`
	Digest    octets `json:"digest"` // verify
	IV        octets `json:"iv"`     // AES
	AAD       octets `json:"aad"`
	Tag       octets `json:"tag"`
}

type operationResult struct {
	Alg   string `json:"alg,omitempty"` // a Managed HSM repeats it
	KID   string `json:"kid"`
	Value octets `json:"value"`
	IV    octets `json:"iv,omitempty"`
	AAD   octets `json:"aad,omitempty"`
	Tag   octets `json:"tag,omitempty"`
}

type verifyResult struct {
	Value bool `json:"value"`
}

type hsmVerifyResult struct {
	Alg   string `json:"alg"`
	KID   string `json:"kid"`
	Value bool   `json:"value"`
}

// rotationPolicy is the policy that a client sets and the service stores. Its shown
// form depends on the service: vaultPolicy, hsmPolicy.
type rotationPolicy struct {
	LifetimeActions []lifetimeAction   `json:"lifetimeActions"`
	Attributes      rotationAttributes `json:"attributes"`
}

// rotationAttributes: expiryTime is an ISO 8601 duration.
type rotationAttributes struct {
	ExpiryTime *string `json:"expiryTime"`
	Created    int64   `json:"created"`
	Updated    int64   `json:"updated"`
}

type vaultPolicy struct {
	ID              string              `json:"id,omitempty"`
	LifetimeActions []lifetimeAction    `json:"lifetimeActions"`
	Attributes      *rotationAttributes `json:"attributes"` // null when none was set
}

type hsmPolicy struct {
	Attributes      rotationAttributes `json:"attributes"`
	ID              string             `json:"id"`
	LifetimeActions []lifetimeAction   `json:"lifetimeActions,omitempty"`
}

type lifetimeAction struct {
	Trigger lifetimeTrigger `json:"trigger"`
	Action  lifetimeType    `json:"action"`
}

// lifetimeTrigger has one ISO 8601 duration.
type lifetimeTrigger struct {
	TimeAfterCreate  string `json:"timeAfterCreate,omitempty"`
	TimeBeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
}

type lifetimeType struct {
	Type string `json:"type"`
}

type backupBody struct {
	Value octets `json:"value"`
}

type randomRequest struct {
	Count int `json:"count"` // bytes
}

type releaseRequest struct {
	Target string `json:"target"` // an attestation of the environment that asks
}

// releaseResult: value is a JWS (RFC 7515).
type releaseResult struct {
	Value string `json:"value"`
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Inner   *errorInner `json:"innererror,omitempty"`
}

type errorInner struct {
	Code string `json:"code"`
}
