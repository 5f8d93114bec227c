package emulator

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	appServicePath = "/msi/token"
	arcPath        = "/metadata/identity/oauth2/token"
)

// hosted is the identity endpoint of App Service and of Azure Arc's agent: plain
// http on an address that the environment names.
type hosted struct {
	addr   string
	header string // what App Service passes to its workloads in IDENTITY_HEADER
	dir    string // where Arc's agent writes its keys; "": no Arc

	mu   sync.Mutex
	keys map[string]string // file by the secret in it, each good once
}

func newHosted(arcDir string) *hosted {
	return &hosted{header: rand.Text(), dir: arcDir, keys: map[string]string{}}
}

// AppServiceEnviron returns the NAME=VALUE settings by which a workload in App Service
// finds its identity; nil without Options.IdentityListen.
func (e *Emulator) AppServiceEnviron() []string {
	if e.hosted.addr == "" {
		return nil
	}
	return []string{
		"IDENTITY_ENDPOINT=http://" + e.hosted.addr + appServicePath,
		"IDENTITY_HEADER=" + e.hosted.header,
	}
}

// ArcEnviron returns the NAME=VALUE settings by which a workload on an Arc machine
// finds its identity; nil without Options.IdentityListen and Options.ArcKeyDir.
func (e *Emulator) ArcEnviron() []string {
	if e.hosted.addr == "" || e.hosted.dir == "" {
		return nil
	}
	return []string{
		"IDENTITY_ENDPOINT=http://" + e.hosted.addr + arcPath,
		"IMDS_ENDPOINT=http://" + e.hosted.addr,
	}
}

func (e *Emulator) serveHosted(w http.ResponseWriter, r *http.Request) {
	c := call{host: hostOnly(e.hosted.addr), method: r.Method, operation: opToken}
	e.act(w, r, c, func(f fault) answer {
		q := r.URL.Query()
		switch {
		case r.Method != http.MethodGet:
			return oauthAnswer(http.StatusMethodNotAllowed, "method_not_allowed", "The method must be GET.")
		case q.Get("resource") == "":
			return oauthAnswer(http.StatusBadRequest, "invalid_request", "The query parameter 'resource' is missing.")
		case r.URL.Path == appServicePath:
			return e.appServiceToken(r, q, f)
		case r.URL.Path == arcPath && e.hosted.dir != "":
			return e.arcToken(r, q, f)
		}
		return oauthAnswer(http.StatusNotFound, "not_found", "The emulator has no identity endpoint here.")
	})
}

func (e *Emulator) appServiceToken(r *http.Request, q url.Values, f fault) answer {
	switch {
	case r.Header.Get("X-Identity-Header") != e.hosted.header:
		return oauthAnswer(http.StatusUnauthorized, "unauthorized",
			"X-IDENTITY-HEADER is not what the platform gave the workload.")
	case q.Get("api-version") != "2019-08-01":
		return oauthAnswer(http.StatusBadRequest, "invalid_request", "The api-version must be 2019-08-01.")
	}
	return e.managedToken(q, f)
}

// arcToken answers only a caller that can read the key file named in a challenge, which
// proves that it is a privileged process of the machine.
func (e *Emulator) arcToken(r *http.Request, q url.Values, f fault) answer {
	secret, proven := strings.CutPrefix(r.Header.Get("Authorization"), "Basic ")
	switch {
	case r.Header.Get("Metadata") != "true":
		return oauthAnswer(http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
	case q.Get("api-version") != "2019-11-01" && q.Get("api-version") != "2020-06-01":
		return oauthAnswer(http.StatusBadRequest, "invalid_request",
			"The api-version must be 2019-11-01 or 2020-06-01.")
	case !proven:
		path, err := e.hosted.newKey()
		if err != nil {
			return oauthAnswer(http.StatusInternalServerError, "server_error", err.Error())
		}
		a := oauthAnswer(http.StatusUnauthorized, "unauthorized_client",
			"Read the key file and send it as Basic authorization.")
		a.challenge = "Basic realm=" + path
		return a
	}
	if err := e.hosted.useKey(secret); err != nil {
		return oauthAnswer(http.StatusForbidden, "forbidden", err.Error())
	}
	return e.managedToken(q, f)
}

func (h *hosted) newKey() (path string, err error) {
	secret := rand.Text()
	path = filepath.Join(h.dir, rand.Text()+".key")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		return "", fmt.Errorf("writing the key file of the Arc agent: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys[secret] = path
	return path, nil
}

func (h *hosted) useKey(secret string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	path, ok := h.keys[secret]
	if !ok {
		return fmt.Errorf("the key was never given out, or was used before")
	}
	delete(h.keys, secret)
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the key file: %w", err)
	}
	return nil
}

// forget removes the key files that nobody used.
func (h *hosted) forget() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, path := range h.keys {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("removing an unused key file: %w", err)
		}
	}
	clear(h.keys)
	return nil
}
