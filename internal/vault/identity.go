package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Identity says who a token is for, as its claims say (RFC 7519; Entra's access token claims). It is for people: only
// the vault checks a token.
type Identity struct {
	ClientID string // of the application or managed identity
	ObjectID string // of its service principal, to which roles are assigned
	Tenant   string
	Resource string // Azure resource id of a managed identity; "" for others
}

// String names the fields that are known.
func (i Identity) String() string {
	var parts []string
	for _, p := range [][2]string{
		{"client", i.ClientID}, {"object", i.ObjectID}, {"tenant", i.Tenant}, {"resource", i.Resource},
	} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if len(parts) == 0 {
		return "a token that does not say who it is for"
	}
	return strings.Join(parts, ", ")
}

// Identity signs in for the vault and returns who the token is for. It sends the token nowhere.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	_, service, _ := strings.Cut(c.host, ".")
	token, err := c.cred.GetToken(
		ctx,
		policy.TokenRequestOptions{Scopes: []string{"https://" + service + "/.default"}},
	)
	if err != nil {
		return Identity{}, c.fail(
			ctx, call{op: operation{name: "check", words: "sign in for"}, effect: &effect{}}, err,
		)
	}
	return identityIn(token.Token), nil
}

// identityIn reads a token's claims. All fields stay empty for a token in another form.
func identityIn(token string) Identity {
	var claims struct {
		AppID    string `json:"appid"`
		AZP      string `json:"azp"`
		ObjectID string `json:"oid"`
		Tenant   string `json:"tid"`
		Resource string `json:"xms_mirid"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Identity{}
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &claims) != nil {
		return Identity{}
	}
	if claims.AppID == "" {
		claims.AppID = claims.AZP
	}
	return Identity{oneLine(claims.AppID), oneLine(claims.ObjectID), oneLine(claims.Tenant), oneLine(claims.Resource)}
}

// ProxyBeforeIdentity returns the endpoint from which a managed identity gets its tokens, and the proxy that
// HTTP_PROXY and NO_PROXY select for it, "" for none. A proxy is rarely right there: the endpoint is on this machine
// or next to it, and gives each machine its own tokens.
func ProxyBeforeIdentity() (endpoint, proxy string, err error) {
	endpoint = "http://169.254.169.254"
	for _, name := range []string{"IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST"} {
		if value := os.Getenv(name); value != "" {
			endpoint = value
			break
		}
	}
	at, err := url.Parse(endpoint)
	if err != nil {
		return endpoint, "", fmt.Errorf("the identity endpoint is not a URL: %w", err)
	}
	through, err := http.ProxyFromEnvironment(&http.Request{URL: at})
	if err != nil {
		return endpoint, "", fmt.Errorf("HTTP_PROXY, HTTPS_PROXY or NO_PROXY cannot be read: %w", err)
	}
	if through == nil {
		return at.Host, "", nil
	}
	return at.Host, through.Host, nil
}
