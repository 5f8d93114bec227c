package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
)

// trailer is the name of the HTTP trailer with which a stream ends after an error. Its
// value is the JSON of a failure.
const trailer = "Keyd-Error"

// maxText is the longest reason, in characters.
const maxText = 500

// route is one kind of request.
type route struct {
	name    string // the metrics' label
	pattern string // of http.ServeMux
	what    string // completes "uid 1000 may not …"
	acts    bool   // it changes something, or shows everything
	slow    bool   // it queries the HSM, the vaults or the whole store
	serve   func(*call, context.Context) error
}

func routes() []route {
	return append(slices.Concat(
		retireRoutes(), repointRoutes(), replaceRoutes(), proposalRoutes(), settingsRoutes(), storeRoutes(),
	), []route{
		{name: "snapshot", pattern: "GET /v1/snapshot", what: "see the state", serve: (*call).snapshot},
		{name: "events", pattern: "GET /v1/events", what: "follow the events", serve: (*call).events},
		{name: "rotate", pattern: "POST /v1/rotate", what: "rotate a key", acts: true, serve: (*call).rotate},
		{name: "rotate-kek", pattern: "POST /v1/kek/rotate", what: "rotate a key exchange key", acts: true,
			serve: (*call).rotateKEK},
		{name: "pause", pattern: "POST /v1/pause", what: "pause a key", acts: true, serve: (*call).pause},
		{name: "resume", pattern: "POST /v1/resume", what: "resume a key", acts: true, serve: (*call).resume},
		{name: "acknowledge", pattern: "POST /v1/acknowledge", what: "acknowledge a compromise", acts: true,
			serve: (*call).acknowledge},
		{name: "prove", pattern: "POST /v1/prove", what: "have a key proven", acts: true, slow: true,
			serve: (*call).prove},
		{name: "adoption", pattern: "GET /v1/adoption", what: "look for what to adopt", slow: true,
			serve: (*call).adoption},
		{name: "adopt", pattern: "POST /v1/adopt", what: "adopt a key", acts: true, slow: true, serve: (*call).adopt},
		{name: "plan", pattern: "GET /v1/plan", what: "see the plan", slow: true, serve: (*call).plan},
		{name: "explain", pattern: "GET /v1/plan/explain", what: "see the plan", slow: true, serve: (*call).explain},
		{name: "consumers", pattern: "GET /v1/consumers", what: "see who uses the keys", slow: true,
			serve: (*call).consumers},
		{name: "check", pattern: "GET /v1/check", what: "run the checks", slow: true, serve: (*call).check},
		{name: "reload", pattern: "POST /v1/reload", what: "reload the configuration", acts: true,
			serve: (*call).reload},
		{name: "audit", pattern: "GET /v1/audit", what: "read the audit", slow: true, serve: (*call).audit},
		{name: "verify", pattern: "GET /v1/audit/verify", what: "verify the audit", slow: true,
			serve: (*call).verifyAudit},
		{name: "export", pattern: "GET /v1/audit/export", what: "export the audit", slow: true,
			serve: (*call).exportAudit},
		{name: "audit-key", pattern: "GET /v1/audit/key", what: "see the audit key", slow: true,
			serve: (*call).auditKey},
		{name: "checkpoint", pattern: "POST /v1/audit/checkpoint", what: "have the audit signed", acts: true,
			slow: true, serve: (*call).checkpoint},
		{name: "backup", pattern: "POST /v1/backup", what: "copy the state", acts: true, slow: true,
			serve: (*call).backup},
	}...)
}

// keyRequest is the body of pause, resume, acknowledge, prove, adopt and retire.
type keyRequest struct {
	Key    string `json:"key"`
	Reason string `json:"reason"`
	Token  string `json:"token,omitempty"` // of what was shown to adopt, or the digest of what is to be retired
}

func (c *call) snapshot(context.Context) error {
	sel, err := parseSelection(c.r.URL.Query())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.backend.Snapshot(sel))
}

func (c *call) events(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.backend.Subscribe(ctx)
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.WriteHeader(http.StatusOK)
	if err := c.rc.Flush(); err != nil { // tells the client that it has subscribed
		return err
	}
	enc := json.NewEncoder(stream{c: c, flush: true})
	for {
		select {
		case e, open := <-events:
			if !open || enc.Encode(e) != nil { // the daemon or the reader has gone
				return nil
			}
		case <-c.ending:
			return nil
		}
	}
}

func (c *call) rotate(ctx context.Context) error {
	var o RotateOptions
	if err := c.decodeUpTo(maxKeysBody, &o); err != nil {
		return err
	}
	for _, k := range o.Keys {
		if err := checkName(k); err != nil {
			return err
		}
	}
	if err := checkText("reason", o.Reason); err != nil {
		return err
	}
	if o.Reason == "" && o.Compromise {
		return &UsageError{"a compromise needs a reason: the audit records it"}
	}
	o.Reason = cmp.Or(o.Reason, NoReason)
	accepted, err := c.backend.Rotate(ctx, c.actor.String(), o)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, accepted)
}

// vaultRequest is the body of a rotation of a key exchange key.
type vaultRequest struct {
	Vault  string `json:"vault"` // nickname
	Reason string `json:"reason"`
}

func (c *call) rotateKEK(ctx context.Context) error {
	var q vaultRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if !key.ValidName(q.Vault) {
		return &UsageError{fmt.Sprintf("%q cannot be the name of a vault", q.Vault)}
	}
	if q.Reason == "" {
		return &UsageError{"a reason is required: the audit records it"}
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	accepted, err := c.backend.RotateKEK(ctx, c.actor.String(), q.Vault, q.Reason)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, accepted)
}

func (c *call) pause(ctx context.Context) error {
	return c.onKey(func(q keyRequest) error {
		return c.backend.Pause(ctx, c.actor.String(), q.Key, q.Reason)
	})
}

func (c *call) resume(ctx context.Context) error {
	return c.onKey(func(q keyRequest) error {
		return c.backend.Resume(ctx, c.actor.String(), q.Key, q.Reason)
	})
}

func (c *call) adopt(ctx context.Context) error {
	return c.onKey(func(q keyRequest) error {
		if q.Token == "" {
			return &UsageError{"adopt needs the token of the adoption that was shown"}
		}
		return c.backend.Adopt(ctx, c.actor.String(), q.Key, q.Reason, q.Token)
	})
}

func (c *call) onKey(act func(keyRequest) error) error {
	var q keyRequest
	if err := c.decode(&q); err != nil {
		return err
	}
	if err := checkName(q.Key); err != nil {
		return err
	}
	if q.Reason == "" {
		return &UsageError{"a reason is required: the audit records it"}
	}
	if err := checkText("reason", q.Reason); err != nil {
		return err
	}
	if err := act(q); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

func (c *call) adoption(ctx context.Context) error {
	name := c.r.URL.Query().Get("key")
	if err := checkName(name); err != nil {
		return err
	}
	found, err := c.backend.Adoption(ctx, name, c.r.URL.Query().Get("unreserved") == "true")
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, found)
}

func (c *call) plan(ctx context.Context) error {
	planned, err := c.backend.Plan(ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, planned)
}

func (c *call) explain(ctx context.Context) error {
	name := c.r.URL.Query().Get("key")
	if err := checkName(name); err != nil {
		return err
	}
	explained, err := c.backend.Explain(ctx, name)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, explained)
}

func (c *call) reload(ctx context.Context) error {
	if err := c.backend.Reload(ctx, c.actor.String()); err != nil {
		return err
	}
	return c.answer(http.StatusOK, struct{}{})
}

func (c *call) audit(ctx context.Context) error {
	query := c.r.URL.Query()
	name := query.Get("key")
	if name != "" {
		if err := checkName(name); err != nil {
			return err
		}
	}
	from, err := strconv.ParseUint(query.Get("from"), 10, 64)
	if err != nil {
		return &UsageError{"from must be the number of an audit entry"}
	}
	c.begin("application/x-ndjson")
	enc := json.NewEncoder(stream{c: c})
	return c.backend.Audit(ctx, from, name, func(e AuditEntry) error { return enc.Encode(e) })
}

func (c *call) verifyAudit(ctx context.Context) error {
	report, err := c.backend.VerifyAudit(ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, report)
}

func (c *call) exportAudit(ctx context.Context) error {
	r, err := parseExport(c.r.URL.Query())
	if err != nil {
		return err
	}
	c.begin(map[audit.Format]string{audit.JSON: "application/x-ndjson", audit.CSV: "text/csv"}[r.Format])
	return c.backend.ExportAudit(ctx, r, stream{c: c})
}

func parseExport(query url.Values) (r audit.Request, err error) {
	r.Key, r.Format = query.Get("key"), audit.Format(query.Get("format"))
	if r.Key != "" {
		if err := checkName(r.Key); err != nil {
			return r, err
		}
	}
	if r.Format != audit.JSON && r.Format != audit.CSV {
		return r, &UsageError{fmt.Sprintf("there is no export format %q: json or csv", r.Format)}
	}
	for name, into := range map[string]*time.Time{"since": &r.Since, "until": &r.Until} {
		if text := query.Get(name); text != "" {
			if *into, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return r, &UsageError{name + " must be an RFC 3339 time"}
			}
		}
	}
	return r, nil
}

func (c *call) auditKey(ctx context.Context) error {
	k, err := c.backend.AuditKey(ctx)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, k)
}

func (c *call) checkpoint(ctx context.Context) error {
	signed, err := c.backend.Checkpoint(ctx, c.actor.String())
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, signed)
}

func (c *call) backup(ctx context.Context) error {
	c.begin("application/octet-stream")
	return c.backend.Backup(ctx, c.actor.String(), stream{c: c})
}

// decode reads the one JSON value of the body, strictly.
func (c *call) decode(v any) error { return c.decodeUpTo(maxBody, v) }

// decodeUpTo is decode for a body of at most so many bytes.
func (c *call) decodeUpTo(most int64, v any) error {
	if err := c.rc.SetReadDeadline(time.Now().Add(readTimeout)); err != nil {
		return err
	}
	dec := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, most))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return tooLong(long.Limit)
	}
	if err != nil {
		return &UsageError{fmt.Sprintf("the request cannot be read: %v", err)}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &UsageError{"the request has something behind its JSON value"}
	}
	// Otherwise the deadline would end the request's context later.
	return c.rc.SetReadDeadline(time.Time{})
}

func (c *call) answer(code int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if err := c.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	c.w.WriteHeader(code)
	if _, err := c.w.Write(body); err != nil {
		return fmt.Errorf("send the answer: %w", err)
	}
	return nil
}

func (f failure) encode() string {
	b, err := json.Marshal(f)
	if err != nil { // two strings always encode
		return f.Text
	}
	return string(b)
}

func checkName(name string) error {
	if !key.ValidName(name) {
		return &UsageError{fmt.Sprintf("%q cannot be the name of a key: names have 1 to 127 letters, digits and dashes",
			name)}
	}
	return nil
}

// checkText keeps text that could deceive a reader out of the audit and the logs.
func checkText(what, s string) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxText {
		return &UsageError{fmt.Sprintf("the %s must be text of at most %d characters", what, maxText)}
	}
	says := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return &UsageError{fmt.Sprintf("the %s must be one line of printable text", what)}
		}
	}
	if s != "" && !strings.ContainsFunc(s, says) { // an advised command, pasted as it is
		return &UsageError{fmt.Sprintf("the %s says nothing: write why in place of %s", what, s)}
	}
	return nil
}
