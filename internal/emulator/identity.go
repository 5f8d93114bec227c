package emulator

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type imdsToken struct {
	AccessToken string `json:"access_token"`
	ClientID    string `json:"client_id"`
	ExpiresIn   string `json:"expires_in"`
	ExpiresOn   string `json:"expires_on"`
	NotBefore   string `json:"not_before"`
	Resource    string `json:"resource"`
	TokenType   string `json:"token_type"`
}

type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// serveIMDS answers the managed-identity endpoint of a virtual machine.
func (e *Emulator) serveIMDS(w http.ResponseWriter, r *http.Request) {
	c := call{host: imdsHost, method: r.Method, operation: opToken}
	e.act(w, r, c, func(f fault) answer {
		q := r.URL.Query()
		switch {
		case r.URL.Path != "/metadata/identity/oauth2/token":
			return oauthAnswer(http.StatusNotFound, "not_found", "The emulator has the managed-identity endpoint only.")
		case r.Method != http.MethodGet:
			return oauthAnswer(http.StatusMethodNotAllowed, "method_not_allowed", "The method must be GET.")
		case r.Header.Get("Metadata") != "true":
			return oauthAnswer(http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		case q.Get("api-version") != "2018-02-01":
			return oauthAnswer(http.StatusBadRequest, "invalid_request", "The api-version must be 2018-02-01.")
		case q.Get("resource") == "":
			return oauthAnswer(http.StatusBadRequest, "invalid_request",
				"Required query variable 'resource' is missing")
		}
		return e.managedToken(q, f)
	})
}

// tokenLife returns how long a token issued now is valid.
func (e *Emulator) tokenLife(f fault) time.Duration {
	if f.rule != nil && f.rule.Expired {
		return -time.Minute
	}
	return e.opts.TokenLifetime
}

// managedToken is the answer of every managed-identity endpoint.
func (e *Emulator) managedToken(q url.Values, f fault) answer {
	clientID := identityOf(q.Get("client_id"), q.Get("object_id"), q.Get("msi_res_id")+q.Get("mi_res_id"))
	resource, now, life := q.Get("resource"), e.opts.Now(), e.tokenLife(f)
	audience := strings.TrimSuffix(resource, "/")
	token, err := e.signer.mint(e.opts.TenantID, clientID, audience, now, life, 0)
	if err != nil {
		return oauthAnswer(http.StatusInternalServerError, "server_error", err.Error())
	}
	return answer{status: http.StatusOK, body: imdsToken{
		AccessToken: token,
		ClientID:    clientID,
		ExpiresIn:   strconv.Itoa(int(life.Seconds())),
		ExpiresOn:   strconv.FormatInt(now.Add(life).Unix(), 10),
		NotBefore:   strconv.FormatInt(now.Unix(), 10),
		Resource:    resource,
		TokenType:   "Bearer",
	}}
}

// identityOf returns the client id of an identity, invented if the request names it by
// another id or not at all.
func identityOf(clientID, objectID, resourceID string) string {
	if clientID != "" {
		return clientID
	}
	h := sha256.Sum256([]byte("identity " + objectID + resourceID))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

func oauthAnswer(status int, code, description string) answer {
	return answer{status: status, body: oauthError{Error: code, Description: description}}
}
