package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

// Timeouts are how long a client waits unless its context ends earlier.
type Timeouts struct {
	Call     time.Duration // 0: 20 s
	Generate time.Duration // 0: 120 s
}

// Client is the network side's view of the HSM side. Its errors have a key.Class: Retry when the request was never
// sent, or when a repetition does no harm; Ambiguous when the answer of Generate or Destroy was lost. Each call has a
// connection of its own. Idle connections are used again.
type Client struct {
	dialer  dialer
	limits  Timeouts
	metrics *metrics

	// turned has room for one word that the HSM side acts on another configuration than in its answer before.
	turned chan struct{}

	mu     sync.Mutex
	idle   []*link
	config string   // of the last answer
	ids    []key.ID // that the HSM side drew, and that nobody has taken yet
}

// dialer makes a connection to the HSM side. It waits for one until ctx ends.
type dialer interface {
	dial(ctx context.Context) (net.Conn, error)
}

// Dial returns a client of the unix socket at path. It connects when a call needs a connection, and again after it lost
// one.
func Dial(path string, limits Timeouts, reg prometheus.Registerer) *Client {
	return newClient(socketPath(path), limits, newMetrics(reg))
}

func newClient(d dialer, limits Timeouts, m *metrics) *Client {
	if limits.Call == 0 {
		limits.Call = defaultCallTimeout
	}
	if limits.Generate == 0 {
		limits.Generate = defaultGenerateTimeout
	}
	return &Client{dialer: d, limits: limits, metrics: m, turned: make(chan struct{}, 1)}
}

// socketPath is the HSM side's unix socket.
type socketPath string

func (p socketPath) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", string(p))
	if err != nil {
		return nil, newError(
			Connection,
			key.Retry,
			"the HSM side does not answer on %s: %w; look at: systemctl status keyd-hsm",
			p,
			err,
		)
	}
	return conn, nil
}

// Close closes the idle connections.
func (c *Client) Close() {
	for l := c.takeIdle(); l != nil; l = c.takeIdle() {
		_ = l.conn.Close()
	}
}

// takeIdle returns the idle connection that was used last; nil if there is none.
func (c *Client) takeIdle() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	l := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return l
}

// connect returns a connection for one call, and whether it was idle before.
func (c *Client) connect(ctx context.Context) (l *link, idle bool, err error) {
	if l := c.takeIdle(); l != nil {
		return l, true, nil
	}
	conn, err := c.dialer.dial(ctx)
	if err != nil {
		return nil, false, err
	}
	return newLink(conn), false, nil
}

// maxIdle limits the idle connections. The HSM side serves maxConns at once, so the connections of a burst must not
// stay open and keep other clients out.
const maxIdle = 8

func (c *Client) putIdle(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == maxIdle {
		_ = l.conn.Close()
		return
	}
	c.idle = append(c.idle, l)
}

// do makes one call and decodes its result. unsure is the class of an error after the request was sent. Before that,
// nothing can have happened.
func do[R any](
	ctx context.Context,
	c *Client,
	method string,
	params any,
	limit time.Duration,
	unsure key.Class,
) (result R, err error) {
	err = c.call(ctx, method, params, limit, unsure, func(body []byte) error { return decodeBody(body, &result) })
	return result, err
}

// call makes one call, whose result may come in several parts.
func (c *Client) call(
	ctx context.Context,
	method string,
	params any,
	limit time.Duration,
	unsure key.Class,
	take func(part []byte) error,
) (err error) {
	begun := time.Now()
	defer func() { c.metrics.observe(method, begun, err) }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	body, err := encodeBody(params)
	if err != nil {
		return refused(BadRequest, "encode the parameters of %s: %w", method, err)
	}
	req := request{Method: method, Class: priority.Of(ctx), Params: body}
	refusal, err := c.exchange(ctx, req, unsure, take)
	if err == nil && refusal != nil {
		return refusal.error()
	}
	return err
}

// exchange sends the request and takes its answer. It uses an idle connection if there is one. An HSM side that ends
// closes its connections; exchange then tries the next idle one, and finally a new one.
func (c *Client) exchange(
	ctx context.Context, req request, unsure key.Class, take func([]byte) error,
) (*wireError, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, newError(Connection, key.Retry, "HSM call %s was not sent: %w", req.Method, err)
		}
		l, idle, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		frame, err := req.due(ctx)
		if err != nil {
			c.putIdle(l) // nothing was written to it
			return nil, err
		}
		refusal, err := l.exchange(ctx, frame, take)
		switch {
		case err == nil:
			c.note(l.config)
			c.putIdle(l)
			return refusal, nil
		case errors.Is(err, errNotSent) && idle && ctx.Err() == nil:
			c.metrics.setUp(false) // it answered before
		case errors.Is(err, errNotSent):
			return nil, newError(Connection, key.Retry, "HSM call %s was %w", req.Method, err)
		case errors.Is(err, errNonsense):
			return nil, newError(Connection, unsure, "HSM call %s: %w", req.Method, err)
		case ctx.Err() != nil:
			return nil, newError(Busy, unsure, "HSM call %s has no answer yet: %w", req.Method, err)
		default:
			return nil, newError(Connection, unsure, "HSM call %s has no answer: %w", req.Method, err)
		}
	}
}

// note remembers which configuration the HSM side acted on.
func (c *Client) note(config string) {
	c.mu.Lock()
	was := c.config
	c.config = config
	c.mu.Unlock()
	if was == config {
		return
	}
	select {
	case c.turned <- struct{}{}:
	default:
	}
}

// Turned gets a word when an answer shows that the HSM side acts on another configuration than before: Describe says
// which.
func (c *Client) Turned() <-chan struct{} { return c.turned }

// milliseconds returns d as the wire carries it: at least 1.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(1, d.Milliseconds()), math.MaxUint32))
}

// Describe says what the HSM side runs on and whether it can work.
func (c *Client) Describe(ctx context.Context) (key.HSMInfo, error) {
	d, err := do[description](ctx, c, "Describe", empty{}, c.limits.Call, key.Retry)
	if err == nil {
		c.metrics.described(d.Degraded != "", d.PINRefused)
		c.metrics.pinIs(d.PIN)
	}
	return d.HSMInfo, err
}

// AwaitEnd keeps a connection open, without a call on it, until the HSM side closes it. It returns why the HSM side
// ended, as far as that is known, and nil if ctx ends first.
func (c *Client) AwaitEnd(ctx context.Context) error {
	conn, err := c.dialer.dial(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err != nil {
		return nil
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = conn.Read(make([]byte, 1))
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return newError(
			Connection,
			key.Retry,
			"the HSM side sent data without a request: are both sides of one version?",
		)
	case err == io.EOF: //nolint:errorlint // a wrapped one says more
		return newError(Connection, key.Retry, "the HSM side closed the connection")
	}
	return newError(Connection, key.Retry, "%w", err)
}

// Inventory lists every pair in the HSM that is labelled as this instance's, as one pass over the token found them. It
// costs a read of every object on the token and waits for pairs that are being made, so call it seldom: Find is for one
// pair.
func (c *Client) Inventory(ctx context.Context) (all []key.Object, err error) {
	err = c.call(ctx, "Inventory", empty{}, c.limits.Generate, key.Retry, func(part []byte) error {
		var page objectsResult
		err := decodeBody(part, &page)
		all = append(all, page.Objects...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Find shows what the HSM has under one id, as Inventory would: a whole pair of this instance, pending or not, or an
// object that is not Complete and whose Problem says why, such as a duplicate, half a pair, or another's. Nothing under
// the id is an empty list and no error. It costs one search on the token.
func (c *Client) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	r, err := do[objectsResult](ctx, c, "Find", idParams{ID: id}, c.limits.Call, key.Retry)
	return r.Objects, err
}

// NewID returns an id for a pair to come: 16 random bytes that nobody got before. The HSM side draws it: then it need
// not search the whole token for the id before it makes the pair. While the HSM side cannot answer, NewID draws one
// itself.
func (c *Client) NewID(ctx context.Context) (key.ID, error) {
	if id, ok := c.takeID(nil); ok {
		return id, nil
	}
	r, err := do[idsResult](ctx, c, "NewIDs", empty{}, c.limits.Call, key.Retry)
	if id, ok := c.takeID(r.IDs); ok && err == nil {
		return id, nil
	}
	return key.NewID(rand.Reader)
}

// takeID takes one id that the HSM side drew, after more of them came.
func (c *Client) takeID(more []key.ID) (id key.ID, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids, more...)
	if len(c.ids) == 0 {
		return "", false
	}
	id, c.ids = c.ids[0], c.ids[1:]
	return id, true
}

// MayGenerate says whether the HSM side would now make a pair for a generation of the key. It changes nothing, so keyd
// asks before it records that it is about to make one. Errors: NotPermitted, and all that keep the HSM from any work.
func (c *Client) MayGenerate(ctx context.Context, keyName string, number int, spec key.Spec) error {
	_, err := do[empty](ctx, c, "MayGenerate", mayGenerateParams{Key: keyName, Number: number, Spec: spec},
		c.limits.Generate, key.Retry)
	return err
}

// Generate makes a pair with this id for a generation of the key, and labels it pending. Call it at most once for an
// id: after an Ambiguous error, look with Find. Exists: an object has the id already, and nothing was made.
//
// known is the id of a pair that must be on the token, such as the generation before; "" for none. The HSM side finds
// it first. TokenChanged: it is not there, and nothing was made.
func (c *Client) Generate(
	ctx context.Context, id key.ID, keyName string, number int, spec key.Spec, known key.ID,
) error {
	_, err := do[empty](
		ctx,
		c,
		"Generate",
		generateParams{ID: id, Key: keyName, Number: number, Spec: spec, Known: known},
		c.limits.Generate,
		key.Ambiguous,
	)
	return err
}

// PublicKey returns the public key of the one complete pair with this id. Its attributes read back as keyd sets them,
// and the HSM proved that it has the private half. Errors: NotFound, Incomplete, Foreign.
func (c *Client) PublicKey(ctx context.Context, id key.ID) (key.Material, error) {
	return c.publicKey(ctx, "PublicKey", idParams{ID: id}, c.limits.Call, key.Retry)
}

func (c *Client) publicKey(
	ctx context.Context,
	method string,
	params any,
	limit time.Duration,
	unsure key.Class,
) (key.Material, error) {
	r, err := do[publicKeyResult](ctx, c, method, params, limit, unsure)
	if err == nil && !r.Material.Known() {
		return key.Material{}, newError(Connection, unsure, "HSM call %s: the answer holds no key", method)
	}
	return r.Material, err
}

// CheckKEK says how the HSM side trusts a KEK: Configured, FirstUse or WouldBeFirstUse. It records nothing. KEKRefused:
// the HSM side does not trust the KEK.
func (c *Client) CheckKEK(ctx context.Context, kek key.KEK) (how string, err error) {
	r, err := do[checkKEKResult](ctx, c, "CheckKEK", kekParams{KEK: kek}, c.limits.Call, key.Retry)
	return r.How, err
}

// WrapFor returns the pair's private key as CKM_RSA_AES_KEY_WRAP ciphertext (PKCS#11 v3.0 section 2.1.21) for the KEK.
// From then on the pair is no longer pending. A caller may repeat it. KEKRefused: the KEK is not trusted.
func (c *Client) WrapFor(ctx context.Context, id key.ID, kek key.KEK) (ciphertext []byte, err error) {
	r, err := do[wrapResult](ctx, c, "WrapFor", wrapParams{ID: id, KEK: kek}, c.limits.Call, key.Retry)
	return r.Ciphertext, err
}

// Opens reports whether the pair decrypts ciphertext (RSA-OAEP-256) to bytes whose SHA-256 is sum. An error never means
// no.
func (c *Client) Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error) {
	r, err := do[opensResult](
		ctx,
		c,
		"Opens",
		opensParams{ID: id, Ciphertext: ciphertext, SHA256: sum},
		c.limits.Call,
		key.Retry,
	)
	return r.Opens, err
}

// Destroy removes what is left under the id of a generation that was never wrapped. It succeeds if nothing is left.
// NotPending: the pair may have left the HSM.
func (c *Client) Destroy(ctx context.Context, id key.ID) error {
	_, err := do[empty](ctx, c, "Destroy", idParams{ID: id}, c.limits.Call, key.Ambiguous)
	return err
}
