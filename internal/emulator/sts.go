package emulator

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const loginHost = "login.microsoftonline.com"

const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// isLoginHost reports whether host is a security token service of the public, US
// government or China cloud.
func isLoginHost(host string) bool {
	return slices.Contains([]string{loginHost, "login.microsoft.com", "login.microsoftonline.us",
		"login.chinacloudapi.cn"}, host)
}

type discoveryDocument struct {
	Issuer                string `json:"issuer"`
	AuthorizationEndpoint string `json:"authorization_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
}

type instanceDiscovery struct {
	TenantDiscoveryEndpoint string          `json:"tenant_discovery_endpoint"`
	APIVersion              string          `json:"api-version"`
	Metadata                []instanceAlias `json:"metadata"`
}

type instanceAlias struct {
	PreferredNetwork string   `json:"preferred_network"`
	PreferredCache   string   `json:"preferred_cache"`
	Aliases          []string `json:"aliases"`
}

type stsToken struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	ExtExpiresIn int    `json:"ext_expires_in"`
	AccessToken  string `json:"access_token"`
}

// serveSTS answers instance discovery, the tenant's OpenID configuration and
// the client-credentials grant with a client assertion.
func (e *Emulator) serveSTS(w http.ResponseWriter, r *http.Request, host string) {
	base := "https://" + host + "/" + e.opts.TenantID
	c := call{host: host, method: r.Method, operation: opToken}
	e.act(w, r, c, func(f fault) answer {
		switch r.Method + " " + strings.Replace(r.URL.Path, e.opts.TenantID, "TENANT", 1) {
		case "GET /common/discovery/instance":
			return answer{status: http.StatusOK, body: instanceDiscovery{
				TenantDiscoveryEndpoint: base + "/v2.0/.well-known/openid-configuration",
				APIVersion:              "1.1",
				Metadata:                []instanceAlias{{host, host, []string{host}}},
			}}
		case "GET /TENANT/v2.0/.well-known/openid-configuration":
			return answer{status: http.StatusOK, body: discoveryDocument{
				Issuer:                base + "/v2.0",
				AuthorizationEndpoint: base + "/oauth2/v2.0/authorize",
				TokenEndpoint:         base + "/oauth2/v2.0/token",
			}}
		case "POST /TENANT/oauth2/v2.0/token":
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			return e.grant(r, base, e.tokenLife(f))
		}
		return oauthAnswer(http.StatusBadRequest, "invalid_request",
			fmt.Sprintf("AADSTS90002: the emulator has only tenant %s and does not know the path %s",
				e.opts.TenantID, r.URL.Path))
	})
}

func (e *Emulator) grant(r *http.Request, base string, valid time.Duration) answer {
	if err := r.ParseForm(); err != nil {
		return oauthAnswer(http.StatusBadRequest, "invalid_request", err.Error())
	}
	clientID := r.PostForm.Get("client_id")
	if g := r.PostForm.Get("grant_type"); g != "client_credentials" {
		return oauthAnswer(http.StatusBadRequest, "unsupported_grant_type",
			fmt.Sprintf("AADSTS70003: the grant type %q is not emulated", g))
	}
	if r.PostForm.Get("client_assertion_type") != jwtBearer {
		return oauthAnswer(http.StatusUnauthorized, "invalid_client", "AADSTS7000216: a client assertion is required")
	}
	if err := e.checkAssertion(r.PostForm.Get("client_assertion"), clientID, base); err != nil {
		return oauthAnswer(http.StatusUnauthorized, "invalid_client", "AADSTS700027: "+err.Error())
	}
	audience := ""
	for _, scope := range strings.Fields(r.PostForm.Get("scope")) {
		if a, ok := strings.CutSuffix(scope, "/.default"); ok {
			audience = strings.TrimSuffix(a, "/")
		}
	}
	if audience == "" {
		return oauthAnswer(http.StatusBadRequest, "invalid_scope", "AADSTS70011: the scope must end in /.default")
	}
	token, err := e.signer.mint(e.opts.TenantID, clientID, audience, e.opts.Now(), valid,
		askedNotBefore(r.PostForm.Get("claims")))
	if err != nil {
		return oauthAnswer(http.StatusInternalServerError, "server_error", err.Error())
	}
	life := int(valid.Seconds())
	return answer{status: http.StatusOK, body: stsToken{"Bearer", life, life, token}}
}

// checkAssertion checks a client assertion as far as the emulator can. One that the
// client signed itself must name client and token endpoint, and match its certificate,
// if it has one. A federated token only has to be a JWT. Dates are not checked, because
// they come from the client's clock, unless the client's certificate is registered.
func (e *Emulator) checkAssertion(assertion, clientID, base string) error {
	var claims jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithoutClaimsValidation())
	token, _, err := parser.ParseUnverified(assertion, &claims)
	if err != nil {
		return fmt.Errorf("the client assertion is not a JWT: %w", err)
	}
	known := e.registered(clientID)
	if claims.Issuer != clientID && len(known) == 0 {
		return nil // a federated token, issued by someone else
	}
	if claims.Issuer != clientID || claims.Subject != clientID ||
		!slices.Contains(claims.Audience, base+"/oauth2/v2.0/token") {
		return fmt.Errorf("the client assertion must have issuer and subject %s and audience %s/oauth2/v2.0/token",
			clientID, base)
	}
	if len(known) > 0 {
		return e.checkSigned(assertion, known)
	}
	chain, ok := token.Header["x5c"].([]any)
	if !ok || len(chain) == 0 {
		return nil
	}
	_, err = parser.ParseWithClaims(assertion, &claims,
		func(*jwt.Token) (any, error) { return certificateKey(chain[0]) })
	return err
}

func certificateKey(encoded any) (any, error) {
	s, ok := encoded.(string)
	if !ok {
		return nil, errors.New("x5c must hold strings")
	}
	der, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding x5c: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing x5c: %w", err)
	}
	return cert.PublicKey, nil
}
