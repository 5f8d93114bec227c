package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// adminState is the answer of GET /state.
type adminState struct {
	Vaults   map[string]map[string][]adminVersion `json:"vaults"` // host, key
	Rules    []adminRule                          `json:"rules"`
	Requests []RequestLog                         `json:"requests"`
	Escapes  []string                             `json:"escapes"`
}

type adminVersion struct {
	ID       string            `json:"id"`
	Created  time.Time         `json:"created"`
	Enabled  bool              `json:"enabled"`
	Imported bool              `json:"imported"`
	Kty      string            `json:"kty"`
	KeyOps   []string          `json:"key_ops"`
	Tags     map[string]string `json:"tags"`
	Modulus  string            `json:"modulus"` // hex
}

type adminRule struct {
	Rule Rule `json:"rule"`
	Hits int  `json:"hits"`
}

// meddleRequest calls one of Vault's methods by its name.
type meddleRequest struct {
	Host    string            `json:"host"`
	Do      string            `json:"do"`
	Key     string            `json:"key"`
	Version string            `json:"version"` // "": the newest
	Enabled bool              `json:"enabled"`
	Tags    map[string]string `json:"tags"`
	What    string            `json:"what"` // for access, as on the command line
}

// adminHandler is for use from another process:
//
//	POST /rules    one rule: ParseRule's text, or JSON of Rule
//	DELETE /rules  ends all rules
//	GET /state     vaults, rules and their hits, requests, escapes
//	POST /meddle   {"host","do","key","version",…}; do is a method of Vault
//	GET /attestation-roots  {"vendor","service"}, each PEM
//	/consumers…, /resources  see arm.Service.AdminHandler
func (e *Emulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /rules", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		rule, err := readRule(body, e.opts.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.Fail(rule)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /rules", func(w http.ResponseWriter, _ *http.Request) {
		e.ClearFailures()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { e.adminJSON(w, e.state()) })
	mux.HandleFunc("GET /attestation-roots", func(w http.ResponseWriter, _ *http.Request) {
		vendor, service, err := e.AttestationRoots()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		e.adminJSON(w, map[string]string{"vendor": string(vendor), "service": string(service)})
	})
	mux.HandleFunc("POST /meddle", func(w http.ResponseWriter, r *http.Request) {
		var q meddleRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		id, err := e.meddle(q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.adminJSON(w, map[string]string{"version": id})
	})
	mux.Handle("/consumers", e.consumers.AdminHandler())
	mux.Handle("/consumers/", e.consumers.AdminHandler())
	mux.Handle("/resources", e.consumers.AdminHandler())
	return mux
}

// readRule takes JSON of a Rule (durations in nanoseconds) or ParseRule's text.
func readRule(body []byte, now time.Time) (Rule, error) {
	if len(body) == 0 || body[0] != '{' {
		return ParseRule(string(body), now)
	}
	var r Rule
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Rule{}, fmt.Errorf("reading the rule: %w", err)
	}
	if r.Status != 0 && (r.Status < 400 || r.Status > 599) {
		return Rule{}, fmt.Errorf("the rule's status %d is not from 400 to 599", r.Status)
	}
	return r, nil
}

func (e *Emulator) adminJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		e.log.Debug("the admin client did not read the answer", "error", err)
	}
}

func (e *Emulator) state() adminState {
	s := adminState{
		Vaults:   map[string]map[string][]adminVersion{},
		Rules:    e.rules.list(),
		Requests: e.Requests(),
		Escapes:  e.Escapes(),
	}
	for host, v := range e.vaults {
		keys := map[string][]adminVersion{}
		for _, name := range v.Keys() {
			for _, i := range v.Versions(name) {
				keys[name] = append(keys[name], adminVersion{
					i.ID, i.Created, i.Enabled, i.Imported, i.Kty, i.KeyOps, i.Tags, i.N.Text(16),
				})
			}
		}
		s.Vaults[host] = keys
	}
	return s
}

func (b *ruleBook) list() []adminRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := *b.rules.Load()
	rules := make([]adminRule, 0, len(all))
	for _, a := range all {
		rules = append(rules, adminRule{a.rule, a.hits})
	}
	return rules
}

func (e *Emulator) meddle(q meddleRequest) (version string, err error) {
	if handled, err := e.meddleAccess(q); handled {
		return "", err
	}
	v := e.Vault(q.Host)
	if v == nil {
		return "", fmt.Errorf("there is no vault %q", q.Host)
	}
	switch q.Do {
	case "AddForeignVersion":
		return v.AddForeignVersion(q.Key)
	case "ReplaceKEK":
		return v.ReplaceKEK(q.Key)
	case "DeleteKey":
		return "", v.DeleteKey(q.Key)
	case "RecoverKey":
		return "", v.RecoverKey(q.Key)
	case "PurgeKey":
		return "", v.PurgeKey(q.Key)
	case "SetEnabled":
		return q.Version, v.SetEnabled(q.Key, q.Version, q.Enabled)
	case "SetTags":
		return q.Version, v.SetTags(q.Key, q.Version, q.Tags)
	case "SwapMaterial":
		return q.Version, v.SwapMaterial(q.Key, q.Version)
	case "SwapModulus":
		return q.Version, v.SwapModulus(q.Key, q.Version)
	case "GarbleUnwrap":
		return q.Version, v.GarbleUnwrap(q.Key, q.Version)
	case "SetNativeRotation":
		return "", v.SetNativeRotation(q.Key, q.Enabled)
	}
	return "", fmt.Errorf("unknown meddling %q", q.Do)
}
