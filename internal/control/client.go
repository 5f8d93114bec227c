package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// How long the client waits for an answer. The slow requests ask the HSM and
// every vault.
const (
	dialTimeout  = 5 * time.Second
	quickTimeout = 30 * time.Second
	slowTimeout  = 10 * time.Minute
)

// Client talks to the daemon behind one control socket. Its methods return an error that wraps ErrUnreachable if no
// daemon answers, a *RefusedError if the daemon refuses, a *UsageError if the request makes no sense, and any other
// error if the daemon tried and failed.
type Client struct {
	path string
	http *http.Client
}

// Dial returns a client of the socket at path; it connects with the first call.
func Dial(path string) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		Proxy:              nil,
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		},
	}}}
}

// Snapshot returns the daemon's state, with the keys that are asked for. When more are named than fit into a request,
// it has every key.
func (c *Client) Snapshot(ctx context.Context, sel status.Selection) (status.Snapshot, error) {
	return get[status.Snapshot](ctx, c, quickTimeout, "/v1/snapshot"+selectionQuery(sel))
}

// Subscribe delivers events from now on, until ctx ends or the daemon goes; then
// it closes the channel. The daemon drops events that are not read in time.
func (c *Client) Subscribe(ctx context.Context) (<-chan status.Event, error) {
	body, _, err := c.open(ctx, http.MethodGet, "/v1/events", nil)
	if err != nil {
		return nil, err
	}
	events := make(chan status.Event)
	go func() {
		defer close(events)
		defer body.Close()
		dec := json.NewDecoder(body)
		for {
			var e status.Event
			if dec.Decode(&e) != nil {
				return
			}
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// Rotate requests a rotation of each key now. If the daemon refuses one of them, it requests none.
func (c *Client) Rotate(ctx context.Context, o RotateOptions) ([]Accepted, error) {
	return post[[]Accepted](ctx, c, quickTimeout, "/v1/rotate", o)
}

// RotateKEK requests a new KEK in the vault with this nickname.
func (c *Client) RotateKEK(ctx context.Context, vault, reason string) (KEKAccepted, error) {
	return post[KEKAccepted](ctx, c, quickTimeout, "/v1/kek/rotate", vaultRequest{Vault: vault, Reason: reason})
}

// Pause puts a key on hold.
func (c *Client) Pause(ctx context.Context, keyName, reason string) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/pause", keyRequest{Key: keyName, Reason: reason})
	return err
}

// Resume lifts a key's hold.
func (c *Client) Resume(ctx context.Context, keyName, reason string) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/resume", keyRequest{Key: keyName, Reason: reason})
	return err
}

// Acknowledge says that the operator answers for the enabled versions of compromised material.
func (c *Client) Acknowledge(ctx context.Context, keyName, reason string) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/acknowledge", keyRequest{Key: keyName, Reason: reason})
	return err
}

// Prove proves every version of a key now.
func (c *Client) Prove(ctx context.Context, keyName string) ([]status.Proof, error) {
	return post[[]status.Proof](ctx, c, slowTimeout, "/v1/prove", keyRequest{Key: keyName})
}

// Adoption shows what could be adopted, and changes nothing; unreserved: with pairs that nobody reserved.
func (c *Client) Adoption(ctx context.Context, keyName string, unreserved bool) (status.Adoption, error) {
	query := url.Values{"key": {keyName}}
	if unreserved {
		query.Set("unreserved", "true")
	}
	return get[status.Adoption](ctx, c, slowTimeout, "/v1/adoption?"+query.Encode())
}

// Adopt consents to what the Adoption with this token showed.
func (c *Client) Adopt(ctx context.Context, keyName, reason, token string) error {
	_, err := post[struct{}](ctx, c, slowTimeout, "/v1/adopt", keyRequest{Key: keyName, Reason: reason, Token: token})
	return err
}

// Plan shows the next step of every key.
func (c *Client) Plan(ctx context.Context) ([]status.Planned, error) {
	return get[[]status.Planned](ctx, c, slowTimeout, "/v1/plan")
}

// Explain shows what each rule of the plan says about one key.
func (c *Client) Explain(ctx context.Context, keyName string) (status.Explanation, error) {
	return get[status.Explanation](ctx, c, slowTimeout, "/v1/plan/explain?"+url.Values{"key": {keyName}}.Encode())
}

// Reload makes the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := post[struct{}](ctx, c, quickTimeout, "/v1/reload", nil)
	return err
}

// Audit calls fn with each entry of the audit chain from number from on; with a keyName, only entries about that key.
func (c *Client) Audit(ctx context.Context, from uint64, keyName string, fn func(AuditEntry) error) error {
	query := url.Values{"from": {strconv.FormatUint(from, 10)}, "key": {keyName}}
	body, trailers, err := c.open(ctx, http.MethodGet, "/v1/audit?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var e AuditEntry
		err := dec.Decode(&e)
		if errors.Is(err, io.EOF) {
			return trailerError(trailers)
		}
		if err != nil {
			return fmt.Errorf("the audit was cut short: %w", err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// VerifyAudit makes the daemon verify the whole audit chain.
func (c *Client) VerifyAudit(ctx context.Context) (AuditReport, error) {
	return get[AuditReport](ctx, c, slowTimeout, "/v1/audit/verify")
}

// ExportAudit writes the requested part of the audit chain to w. After an error, w has
// an incomplete export.
func (c *Client) ExportAudit(ctx context.Context, r audit.Request, w io.Writer) error {
	query := url.Values{"key": {r.Key}, "format": {string(r.Format)}}
	for name, t := range map[string]time.Time{"since": r.Since, "until": r.Until} {
		if !t.IsZero() {
			query.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return c.copyTo(ctx, w, http.MethodGet, "/v1/audit/export?"+query.Encode(), "the export")
}

// AuditKey returns the public half of the key that signs checkpoints.
func (c *Client) AuditKey(ctx context.Context) (AuditKey, error) {
	return get[AuditKey](ctx, c, slowTimeout, "/v1/audit/key")
}

// Checkpoint gets the audit chain's head signed now.
func (c *Client) Checkpoint(ctx context.Context) (key.Checkpoint, error) {
	return post[key.Checkpoint](ctx, c, slowTimeout, "/v1/audit/checkpoint", nil)
}

// Backup writes a consistent copy of the state to w. After an error, w does not have a
// usable backup.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	return c.copyTo(ctx, w, http.MethodPost, "/v1/backup", "the backup")
}

// copyTo copies a streamed answer to w.
func (c *Client) copyTo(ctx context.Context, w io.Writer, method, path, what string) error {
	body, trailers, err := c.open(ctx, method, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("%s was cut short: %w", what, err)
	}
	return trailerError(trailers)
}

func get[T any](ctx context.Context, c *Client, limit time.Duration, path string) (T, error) {
	return exchange[T](ctx, c, limit, http.MethodGet, path, nil)
}

func post[T any](ctx context.Context, c *Client, limit time.Duration, path string, body any) (T, error) {
	return exchange[T](ctx, c, limit, http.MethodPost, path, body)
}

func exchange[T any](ctx context.Context, c *Client, limit time.Duration, method, path string, body any) (T, error) {
	var answer T
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	rest, _, err := c.open(ctx, method, path, body)
	if err != nil {
		return answer, err
	}
	defer rest.Close()
	if err := json.NewDecoder(rest).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the daemon's answer: %w", err)
	}
	return answer, nil
}

// open sends a request. It returns the body of a successful answer, and the trailers, which are complete once the
// caller has read the whole body.
func (c *Client) open(ctx context.Context, method, path string, body any) (io.ReadCloser, http.Header, error) {
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, nil, fmt.Errorf("encode the request: %w", err)
		}
		if len(b) > maxKeysBody { // the daemon would cut the connection
			return nil, nil, tooLong(maxKeysBody)
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, sent)
	if err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, c.explain(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, nil, answeredError(resp)
	}
	return resp.Body, resp.Trailer, nil
}

// explain turns a transport error into one that says what it means.
func (c *Client) explain(ctx context.Context, err error) error {
	var plain *url.Error // "Get http://keyd/…" does not help a person
	if errors.As(err, &plain) {
		err = plain.Err
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: it did not answer on %s in time: %w", ErrUnreachable, c.path, context.DeadlineExceeded)
	case errors.Is(err, fs.ErrPermission):
		return &RefusedError{fmt.Sprintf("the control socket %s may not be opened by this user: become a member of "+
			"its group, or root", c.path)}
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s", ErrUnreachable, c.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody serves %s", ErrUnreachable, c.path)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: it closed the connection without an answer (stopped, or this user has %d requests open)",
			ErrUnreachable, maxPerUID)
	default:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
}

func answeredError(resp *http.Response) error {
	var f failure
	err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&f)
	if err != nil || f.Text == "" {
		return fmt.Errorf("the daemon answered %s: is it of another version than this command?", resp.Status)
	}
	return f.err()
}

func trailerError(t http.Header) error {
	text := t.Get(trailer)
	if text == "" {
		return nil
	}
	var f failure
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return errors.New(text)
	}
	return f.err()
}
