package vault

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// originGuard refuses every request that is not for this vault. The SDK follows a listing's nextLink wherever it
// points, and would send the token there. Key Vault writes the port into nextLink (https://HOST:443/…). originGuard
// replaces it by the vault's own name, because the SDK compares the name with the challenge as text.
type originGuard struct {
	vault string // URL
	host  string
}

func (p originGuard) Do(req *policy.Request) (*http.Response, error) {
	r := req.Raw()
	if !key.SameOrigin(r.URL, p.vault) {
		return nil, final{badAnswerf("it sends keyd on to %s://%s, and keyd sends a token for %s nowhere else",
			r.URL.Scheme, r.URL.Host, p.host)}
	}
	r.URL.Host, r.Host = p.host, p.host
	return req.Next()
}

// final keeps the SDK from retrying an error that stays the same.
type final struct{ error }

// NonRetriable marks the error for azcore's retry policy.
func (final) NonRetriable() {}

// Unwrap returns the error itself.
func (e final) Unwrap() error { return e.error }

// limiterPolicy keeps each try within the vault's limits.
type limiterPolicy struct{ gate *gate }

func (p limiterPolicy) Do(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	if err := p.gate.wait(ctx, callOf(ctx)); err != nil {
		return nil, final{fmt.Errorf("waiting for the vault's rate limit: %w", err)}
	}
	return req.Next()
}

// effectPolicy notes whether the vault may have acted on a call, and keeps one that changes something from leaving
// after its deadline. The first request of a client has neither token nor body (it asks for the challenge), so it
// cannot change anything.
type effectPolicy struct{}

func (effectPolicy) Do(req *policy.Request) (*http.Response, error) {
	k := callOf(req.Raw().Context())
	effect := k.effect
	before := effect.possible()
	if k.op.changes {
		if err := term.Check(req.Raw().Context()); err != nil {
			return nil, lasting(err)
		}
		term.Gate(req.Raw())
	}
	if req.Raw().Header.Get("Authorization") != "" {
		effect.maybe.Store(true)
	}
	resp, err := req.Next()
	switch {
	case err != nil && neverSent(err), err == nil && definiteRefusal(resp.StatusCode):
		effect.maybe.Store(before)
	case err == nil && resp.StatusCode < 300:
		effect.maybe.Store(true)
	}
	return resp, lasting(err)
}

// challengePolicy removes a challenge that the SDK cannot parse: the SDK panics on an authority without a path
// (azkeys 1.5.0, parseTenant).
type challengePolicy struct{}

const challengeHeader = "WWW-Authenticate"

func (challengePolicy) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if header := resp.Header.Get(challengeHeader); !safeChallenge(header) {
		return nil, final{badAnswerf("the sign-in challenge %q names no tenant", oneLine(header))}
	}
	return resp, nil
}

// safeChallenge splits a challenge as the SDK does and reports whether its
// authority, if it has one, is a URL with a path.
func safeChallenge(header string) bool {
	for _, part := range strings.Split(strings.ReplaceAll(header, "Bearer ", ""), " ") {
		name, value, found := strings.Cut(part, "=")
		if !found || name != "authorization" {
			continue
		}
		value = strings.TrimSuffix(strings.ReplaceAll(value, `"`, ""), ",")
		if value != "" && strings.Count(value, "/") < 3 {
			return false
		}
	}
	return true
}

// observer counts every answer and takes the vault's clock from it.
type observer struct {
	vault   string
	now     func() time.Time
	metrics *Metrics
	log     *slog.Logger

	mu    sync.Mutex
	skew  time.Duration
	known bool
}

func (o *observer) Do(req *policy.Request) (*http.Response, error) {
	k := callOf(req.Raw().Context())
	signedIn := req.Raw().Header.Get("Authorization") != ""
	begun := o.now()
	resp, err := req.Next()
	ended := o.now()

	status := 0
	if err == nil {
		status = resp.StatusCode
		o.learnClock(resp, ended)
	}
	if status == http.StatusUnauthorized && !signedIn {
		return resp, err // the challenge, which every client gets first
	}
	o.metrics.observe(o.vault, k.op.name, status, begun, ended)
	o.log.Debug("vault request", "vault", o.vault, "operation", k.op.name, "key", k.key,
		"version", k.version, "status", status, "elapsed", ended.Sub(begun))
	return resp, err
}

// learnClock reads the Date header (RFC 9110 section 6.6.1), which has whole seconds, so the true time was half a
// second later on average.
func (o *observer) learnClock(resp *http.Response, now time.Time) {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	skew := date.Add(500 * time.Millisecond).Sub(now)
	o.mu.Lock()
	o.skew, o.known = skew, true
	o.mu.Unlock()
	o.metrics.clockSkew.WithLabelValues(o.vault).Set(skew.Seconds())
}

func (o *observer) clockSkew() (time.Duration, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.skew, o.known
}

// longestBody is far above any correct answer: a page of 25 versions with full tags has about 250 KiB.
const longestBody = 4 << 20 // bytes

var errBodyTooLong = errors.New("the answer is longer than 4 MiB")

// cappedTransport bounds every answer's body.
type cappedTransport struct{ next policy.Transporter }

func (t cappedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(req)
	if err != nil || resp == nil || resp.Body == nil {
		return resp, err
	}
	resp.Body = &cappedBody{ReadCloser: resp.Body, left: longestBody}
	return resp, nil
}

type cappedBody struct {
	io.ReadCloser
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, final{errBodyTooLong}
	}
	// One byte over the limit shows that the body is too long.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, final{errBodyTooLong}
	}
	return n, err
}
