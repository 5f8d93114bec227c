package arm

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	vaultAPIVersion = "7.4"
	wrapAlgorithm   = "RSA-OAEP-256"
	maxAnswer       = 1 << 20
)

// identity is how a consumer signs in: by the id of a resource that has a managed
// identity, or by a client id.
type identity struct {
	resourceID, clientID string
}

// token is the answer of the managed-identity endpoint.
type token struct {
	AccessToken string `json:"access_token"`
	ClientID    string `json:"client_id"`
}

// signIn gets an identity's token for an audience.
func (s *Service) signIn(ctx context.Context, who identity, audience string) (token, error) {
	if err := s.users.check(who); err != nil {
		return token{}, err
	}
	q := url.Values{"api-version": {"2018-02-01"}, "resource": {audience}}
	if who.clientID != "" {
		q.Set("client_id", who.clientID)
	} else {
		q.Set("msi_res_id", strings.ToLower(who.resourceID))
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://169.254.169.254/metadata/identity/oauth2/token?"+q.Encode(), nil)
	if err != nil {
		return token{}, err
	}
	r.Header.Set("Metadata", "true")
	var t token
	status, body, _, err := s.send(r)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &t)
	}
	if err != nil {
		return token{}, fmt.Errorf("signing in for %s: %w", audience, err)
	}
	s.cfg.Trust(t.ClientID)
	return t, nil
}

func (s *Service) send(r *http.Request) (status int, body []byte, header http.Header, err error) {
	resp, err := s.cfg.Client.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, resp.Header, err
}

// keyInfo is what a service reads of a key before it uses the key.
type keyInfo struct {
	version       string
	kty           string
	bits          int
	enabled       bool
	expires       time.Time // zero: never
	recoveryLevel string
	region        string // of the vault; "": it does not say
}

// look reads a key version, the newest if k names none.
func (s *Service) look(ctx context.Context, who identity, k keyRef) (keyInfo, error) {
	var b struct {
		Key struct {
			KID string `json:"kid"`
			Kty string `json:"kty"`
			N   string `json:"n"`
		} `json:"key"`
		Attributes struct {
			Enabled       bool   `json:"enabled"`
			Expires       int64  `json:"exp"`
			RecoveryLevel string `json:"recoveryLevel"`
		} `json:"attributes"`
	}
	header, err := s.call(ctx, who, http.MethodGet, k, "", nil, &b)
	if err != nil {
		return keyInfo{}, err
	}
	n, err := base64.RawURLEncoding.DecodeString(b.Key.N)
	if err != nil {
		return keyInfo{}, fmt.Errorf("get of %s: decoding the modulus: %w", k, err)
	}
	found, err := parseKeyRef(b.Key.KID)
	if err != nil {
		return keyInfo{}, fmt.Errorf("get of %s: %w", k, err)
	}
	info := keyInfo{
		version: found.version, kty: b.Key.Kty, bits: new(big.Int).SetBytes(n).BitLen(),
		enabled: b.Attributes.Enabled, recoveryLevel: b.Attributes.RecoveryLevel,
		region: header.Get("X-Ms-Keyvault-Region"),
	}
	if b.Attributes.Expires != 0 {
		info.expires = time.Unix(b.Attributes.Expires, 0).UTC()
	}
	return info, nil
}

// transform wraps or unwraps a value with one version.
func (s *Service) transform(ctx context.Context, who identity, operation string, k keyRef,
	value []byte) ([]byte, error) {
	in := struct {
		Alg   string `json:"alg"`
		Value string `json:"value"`
	}{wrapAlgorithm, base64.RawURLEncoding.EncodeToString(value)}
	var out struct {
		Value string `json:"value"`
	}
	if _, err := s.call(ctx, who, http.MethodPost, k, operation, in, &out); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(out.Value)
}

// call does one operation on a key, "" reads it, and returns the answer's header.
func (s *Service) call(ctx context.Context, who identity, method string, k keyRef, operation string,
	in, out any) (http.Header, error) {
	t, err := s.signIn(ctx, who, k.audience())
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	path := k.vault + "/keys/" + url.PathEscape(k.name) + "/" + k.version
	if operation != "" {
		path += "/" + operation
	}
	r, err := http.NewRequestWithContext(ctx, method, path+"?api-version="+vaultAPIVersion, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+t.AccessToken)
	r.Header.Set("Content-Type", "application/json")
	if operation == "" {
		operation = "get"
	}
	status, answer, header, err := s.send(r)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", operation, k, err)
	}
	if status != http.StatusOK {
		return nil, readVaultError(operation, k, status, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return nil, fmt.Errorf("%s of %s: reading the answer: %w", operation, k, err)
	}
	return header, nil
}

func readVaultError(operation string, k keyRef, status int, answer []byte) error {
	e := &VaultError{Call: operation, Key: k.String(), Status: status, Message: "no message"}
	var wire struct {
		Error struct {
			Code, Message string
			InnerError    struct{ Code string }
		}
	}
	if json.Unmarshal(answer, &wire) == nil && wire.Error.Code != "" {
		e.Code, e.Inner, e.Message = wire.Error.Code, wire.Error.InnerError.Code, wire.Error.Message
	}
	return e
}
