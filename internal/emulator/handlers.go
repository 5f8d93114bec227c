package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Operations, as rules and request logs name them.
const (
	opConnect     = "connect"
	opToken       = "token"
	opResource    = "resource"
	opGraph       = "graph"
	opLogs        = "logs"
	opCreate      = "create"
	opImport      = "import"
	opGet         = "get"
	opVersions    = "versions"
	opList        = "list"
	opUpdate      = "update"
	opDelete      = "delete"
	opGetDeleted  = "getdeleted"
	opListDeleted = "listdeleted"
	opRecover     = "recover"
	opPurge       = "purge"
	opRotation    = "rotationpolicy"
	opSetRotation = "setrotationpolicy"
	opRotate      = "rotate"
	opAttestation = "attestation"
	opWrap        = "wrap"
	opUnwrap      = "unwrap"
	opEncrypt     = "encrypt"
	opDecrypt     = "decrypt"
	opSign        = "sign"
	opVerify      = "verify"
	opBackup      = "backup"
	opRestore     = "restore"
	opRandom      = "rng"
	opRelease     = "release"
	opRoles       = "roleassignments"
	opRoleNames   = "roledefinitions"
)

const maxBody = 1 << 20

// answer is one response before rules spoil it.
type answer struct {
	status     int
	body       any       // nil: no body
	failure    *apiError // instead of body
	challenge  string
	retryAfter time.Duration
	header     map[string]string // more of them
}

// serveVault answers one data-plane request: challenge, api-version, rules,
// then the operation.
func (e *Emulator) serveVault(w http.ResponseWriter, r *http.Request, v *Vault) {
	t := parseTarget(r.Method, r.URL.Path)
	c := call{host: v.config.Host, method: r.Method, operation: t.operation, key: t.key}
	who, refusal := e.authenticate(r, v)
	c.address, c.caller = who.Address, who.clientID
	if refusal != nil {
		e.write(w, r, c, *refusal, fault{})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		e.write(w, r, c, errorAnswer(badParameter("reading the body: %v", err)), fault{})
		return
	}
	c.challenge = v.unauthorized(e.opts.TenantID, errors.New("the token was rejected")).challenge
	e.act(w, r, c, func(f fault) answer {
		assignment, err := v.receive(who, t, v.apiVersions(r.URL.Query()))
		if err != nil {
			return errorAnswer(err)
		}
		if a := v.throttle(t, body); a != nil {
			return *a
		}
		header := v.byRole(assignment)
		status, result, err := v.as(f, r.URL.Query().Get("api-version")).do(t, r.URL.Query(), body)
		if err != nil {
			a := errorAnswer(err)
			a.header = header
			return a
		}
		return answer{status: status, body: result, header: header}
	})
}

// apiVersions returns the versions in a request. A Managed HSM's links to next pages
// have none and still work.
func (v *Vault) apiVersions(query url.Values) []string {
	given := query["api-version"]
	if len(given) == 0 && v.config.Profile == ManagedHSM && query.Has("$skiptoken") {
		return []string{newestVersion}
	}
	return given
}

// receive returns why the service refuses a call before doing anything, or nil and the
// role assignment that admits it.
func (v *Vault) receive(who caller, t target, given []string) (assignment string, err error) {
	if err := v.admit(who); err != nil {
		return "", err
	}
	if err := checkAPIVersion(given, t.operation); err != nil {
		return "", err
	}
	return v.authorize(who, t)
}

// act runs one call under the rules and writes the result.
func (e *Emulator) act(w http.ResponseWriter, r *http.Request, c call, do func(fault) answer) {
	f := e.rules.match(c)
	began := time.Now()
	served := e.wait(f)
	if f.delay > 0 || len(f.holds) > 0 {
		c.delay = time.Since(began)
	}
	if !served || f.drops() {
		e.drop(r, c)
	}
	if f.rule != nil && f.rule.Status > 0 {
		a := f.rule.refusal()
		a.header, c.done = c.refused, a.status
		if a.status == http.StatusUnauthorized {
			a.challenge = c.challenge
		}
		e.write(w, r, c, a, fault{skew: f.skew})
		return
	}
	a := do(f)
	c.done = a.status
	if f.rule != nil && f.rule.Drop == DropAfterCommit {
		e.drop(r, c)
	}
	e.write(w, r, c, a, f)
}

// drop closes the connection without an answer.
func (e *Emulator) drop(r *http.Request, c call) {
	e.recordCall(r, c, 0)
	panic(http.ErrAbortHandler)
}

func (e *Emulator) write(w http.ResponseWriter, r *http.Request, c call, a answer, f fault) {
	body, err := e.dress(w.Header(), r, c, a)
	if err != nil {
		e.log.Error("encoding an answer", "operation", c.operation, "error", err)
		e.drop(r, c)
	}
	truncate := f.rule != nil && f.rule.Truncate
	switch {
	case f.rule != nil && f.rule.Garbage:
		a.status, body = http.StatusOK, []byte("<html>not what was asked for")
	case f.rule != nil && f.rule.WrongJSON:
		a.status, body = http.StatusOK, []byte(`{"key":["of another shape"],"attributes":7,"value":{}}`)
	}
	h := w.Header()
	if v := e.vaults[c.host]; v != nil && v.config.Profile == ManagedHSM && e.opts.HSMWithoutDate {
		h["Date"] = nil
	} else {
		h.Set("Date", e.opts.Now().Add(f.skew).UTC().Format(http.TimeFormat))
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if len(body) > 0 {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	for name, value := range a.header {
		h.Set(name, value)
	}
	if a.challenge != "" {
		h.Set("WWW-Authenticate", a.challenge)
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((a.retryAfter+time.Second-1)/time.Second)))
	}
	e.recordCall(r, c, a.status)
	w.WriteHeader(a.status)
	if truncate {
		body = body[:len(body)/2]
	}
	if _, err := w.Write(body); err != nil {
		e.log.Debug("the client did not read the answer", "operation", c.operation, "error", err)
	}
	if truncate {
		if err := http.NewResponseController(w).Flush(); err != nil {
			e.log.Debug("flushing half an answer", "error", err)
		}
		panic(http.ErrAbortHandler)
	}
}

// dress sets the headers a vault sends with every answer, and encodes the body.
func (e *Emulator) dress(h http.Header, r *http.Request, c call, a answer) ([]byte, error) {
	activityID := ""
	if v := e.vaults[c.host]; v != nil {
		id, err := newRequestID()
		if err != nil {
			return nil, err
		}
		v.dress(h, r, id, c.address)
		if v.config.Profile == ManagedHSM {
			activityID = id
		}
	}
	if a.failure != nil {
		a.body = a.failure.wire(activityID)
	}
	if a.body == nil {
		return nil, nil
	}
	return json.Marshal(a.body)
}

func (e *Emulator) recordCall(r *http.Request, c call, status int) {
	e.record(RequestLog{
		Time: e.opts.Now(), Method: r.Method, Host: c.host, Path: r.URL.Path,
		Operation: c.operation, Key: c.key, Status: status, Done: c.done, Delay: c.delay, Caller: c.caller,
		Query: r.URL.RawQuery, Agent: r.UserAgent(), ClientRequestID: r.Header.Get("X-Ms-Client-Request-Id"),
	})
}

func errorAnswer(err error) answer {
	var api *apiError
	if !errors.As(err, &api) {
		api = &apiError{status: http.StatusInternalServerError, code: "InternalServerError", message: err.Error()}
	}
	return answer{status: api.status, failure: api}
}

// privateEndpointDomain is the domain of vaults' names for private endpoints.
const privateEndpointDomain = "privatelink.vaultcore.azure.net"

// audience is the token audience of the cloud the vault's host belongs to. A vault
// called by its private endpoint's name still names its service, so clients refuse its
// challenge.
func (v *Vault) audience() string {
	_, domain, _ := strings.Cut(v.config.Host, ".")
	if domain == privateEndpointDomain {
		domain = "vault.azure.net"
	}
	return "https://" + domain
}

func (v *Vault) unauthorized(tenant string, reason error) answer {
	a := answer{
		status:    http.StatusUnauthorized,
		challenge: fmt.Sprintf("Bearer authorization=%q, resource=%q", "https://"+loginHost+"/"+tenant, v.audience()),
	}
	if v.config.Profile != ManagedHSM {
		a.failure = &apiError{code: "Unauthorized", message: "AKV10000: " + reason.Error()}
	}
	return a
}
