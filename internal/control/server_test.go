package control

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func TestEveryActionCarriesItsActor(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	ctx := t.Context()
	accepted, err := c.Rotate(ctx, RotateOptions{Keys: []string{"a"}, Reason: "drill"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Accepted{{Key: "a", Request: requestID}}, accepted); diff != "" {
		t.Error(diff)
	}
	for _, err := range []error{
		c.Pause(ctx, "a", "migration"),
		c.Resume(ctx, "a", "migrated"),
		c.Acknowledge(ctx, "a", "the archive needs it"),
		c.Adopt(ctx, "a", "moved here", "t1"),
		c.ConsentToRetire(ctx, "a", "planned", "d1"),
		c.Enable(ctx, "a", "0123456789abcdef0123456789abcdef", "still needed"),
		c.Repoint(ctx, "a", "left behind", []string{"ai-1"}),
		c.Approve(ctx, requestID, "anna called me"),
		c.Withdraw(ctx, requestID, "not needed"),
		c.Reload(ctx),
		c.Backup(ctx, io.Discard),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if proofs, err := c.Prove(ctx, "a"); err != nil || len(proofs) != 1 {
		t.Errorf("proofs %+v, %v", proofs, err)
	}
	if _, err := c.Rotate(ctx, RotateOptions{Keys: []string{"a"}}); err != nil {
		t.Error(err)
	}
	me, _ := peer{uid: uint32(os.Getuid())}.identify()
	want := []string{
		me.String() + " rotates [a]: drill",
		me.String() + " pauses a: migration",
		me.String() + " resumes a: migrated",
		me.String() + " acknowledges a: the archive needs it",
		me.String() + " adopts a by t1: moved here",
		me.String() + " consents to retire a by d1: planned",
		me.String() + " enables 0123456789abcdef0123456789abcdef of a: still needed",
		me.String() + " moves [ai-1] of a: left behind",
		me.String() + " approves " + string(requestID) + ": anna called me",
		me.String() + " withdraws " + string(requestID) + ": not needed",
		me.String() + " reloads",
		me.String() + " backs up",
		me.String() + " has a proven",
		me.String() + " rotates [a]: none given",
	}
	if diff := cmp.Diff(want, f.notes()); diff != "" {
		t.Error(diff)
	}
}

func TestAnswersToReadersArriveWhole(t *testing.T) {
	f := newFake()
	f.snap = status.Snapshot{Version: "1", Keys: []status.Key{{Name: "a", State: status.StateOK}}}
	for i := range 3 {
		f.audit = append(f.audit,
			AuditEntry{Seq: uint64(i + 1), Entry: chain.Entry{Key: "a", Event: "e"}, Hash: fmt.Sprint(i)})
	}
	c := Dial(serve(t, f, everyone))
	ctx := t.Context()
	snap, err := c.Snapshot(ctx, status.Selection{})
	if err != nil || !cmp.Equal(snap, f.snap) {
		t.Errorf("snapshot %+v, %v", snap, err)
	}
	if found, err := c.Adoption(ctx, "a", true); err != nil || found.Token != "t2" {
		t.Errorf("the second consent: %+v, %v", found, err)
	}
	if found, err := c.Adoption(ctx, "a", false); err != nil || found.Token != "t1" {
		t.Errorf("adoption %+v, %v", found, err)
	}
	never := RetireQuestion{Key: "b", Rule: &key.RetireRule{}}
	if r, err := c.Retirements(ctx, RetireQuestion{Key: "a"}, never); err != nil || len(r) != 2 ||
		r[0].Digest != "d1" || r[0].Never || !r[1].Never {
		t.Errorf("retirements %+v, %v", r, err)
	}
	if s, err := c.Settings(ctx); err != nil || !s.NeedsApproval || s.InForce[""]["control.group"] != "g" {
		t.Errorf("settings %+v, %v", s, err)
	}
	if p, err := c.Plan(ctx); err != nil || len(p) != 1 {
		t.Errorf("plan %+v, %v", p, err)
	}
	if e, err := c.Explain(ctx, "a"); err != nil || len(e.Rules) != 1 || e.Next.Step != "idle" {
		t.Errorf("explanation %+v, %v", e, err)
	}
	var usage *UsageError
	if _, err := c.Explain(ctx, "b"); !errors.As(err, &usage) {
		t.Errorf("explanation of a key that is not there: %v", err)
	}
	p, err := c.Check(ctx, "a", ignore)
	if err != nil || len(p.Checks) != 1 || p.Checks[0].Subject != "a" || p.Summary[status.CheckOK] != 1 {
		t.Errorf("check %+v, %v", p, err)
	}
	if r, err := c.VerifyAudit(ctx); err != nil || !r.Consistent || r.Entries != 3 {
		t.Errorf("verify %+v, %v", r, err)
	}
	var seen []AuditEntry
	if err := c.Audit(ctx, 2, "a", func(e AuditEntry) error { seen = append(seen, e); return nil }); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(f.audit[1:], seen); diff != "" {
		t.Error(diff)
	}
	var copied bytes.Buffer
	if err := c.Backup(ctx, &copied); err != nil || copied.String() != "the state" {
		t.Errorf("backup %q, %v", &copied, err)
	}
}

func TestStreamThatBreaksIsAnError(t *testing.T) {
	f := newFake()
	f.audit = []AuditEntry{{Seq: 1}}
	f.broken = errors.New("disk gone")
	c := Dial(serve(t, f, everyone))
	if err := c.Backup(t.Context(), io.Discard); err == nil || err.Error() != "disk gone" {
		t.Errorf("backup: %v", err)
	}
	err := c.Audit(t.Context(), 0, "", func(AuditEntry) error { return nil })
	if err == nil || err.Error() != "disk gone" {
		t.Errorf("audit: %v", err)
	}
}

func TestErrorsKeepTheirKind(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	f.err = fmt.Errorf("reading: %w", &UsageError{"no key b"})
	var usage *UsageError
	if err := c.Pause(t.Context(), "b", "x"); !errors.As(err, &usage) || err.Error() != "reading: no key b" {
		t.Errorf("usage: %#v", err)
	}
	f.err = &RefusedError{"stale token"}
	var refused *RefusedError
	if err := c.Adopt(t.Context(), "b", "x", "t"); !errors.As(err, &refused) {
		t.Errorf("refused: %#v", err)
	}
	f.err = &ProposedError{"it waits for a second operator"}
	var proposed *ProposedError
	if err := c.Resume(t.Context(), "b", "x"); !errors.As(err, &proposed) || err.Error() != f.err.Error() {
		t.Errorf("proposed: %#v", err)
	}
	f.err = errors.New("plainly failed")
	if err := c.Reload(t.Context()); err == nil || errors.As(err, &usage) || errors.As(err, &refused) {
		t.Errorf("failed: %#v", err)
	}
}

func TestARequestMayNameTenThousandKeys(t *testing.T) {
	c := Dial(serve(t, newFake(), everyone))
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("%0127d", i)
	}
	if _, err := c.Rotate(t.Context(), RotateOptions{Keys: names, Reason: "x"}); err != nil {
		t.Error(err)
	}
	_, err := c.Rotate(t.Context(), RotateOptions{Keys: slices.Repeat(names, 2), Reason: "x"})
	if err == nil || !strings.Contains(err.Error(), "name fewer keys") {
		t.Errorf("many more: %v", err)
	}
}

func TestBadRequestsNeverReachTheBackend(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	for name, err := range map[string]error{
		"no reason":                       c.Pause(t.Context(), "a", ""),
		"bad name":                        c.Pause(t.Context(), "a/b", "x"),
		"control sequence":                c.Pause(t.Context(), "a", "x\x1b[2J"),
		"two lines":                       c.Resume(t.Context(), "a", "x\ny"),
		"long reason":                     c.Resume(t.Context(), "a", strings.Repeat("x", maxText+1)),
		"huge body":                       c.Resume(t.Context(), "a", strings.Repeat("x", 2*maxBody)),
		"empty reason":                    c.Acknowledge(t.Context(), "a", ""),
		"no token":                        c.Adopt(t.Context(), "a", "x", ""),
		"no digest":                       c.ConsentToRetire(t.Context(), "a", "x", ""),
		"no version":                      c.Enable(t.Context(), "a", "newest", "x"),
		"no proposal":                     c.Approve(t.Context(), "newest", "x"),
		"no reason to approve":            c.Approve(t.Context(), requestID, ""),
		"no reason to move":               c.Repoint(t.Context(), "a", "", nil),
		"a consumer's control characters": c.Repoint(t.Context(), "a", "x", []string{"a\nb"}),
		"no reason to enable":             c.Enable(t.Context(), "a", "0123456789abcdef0123456789abcdef", ""),
	} {
		var usage *UsageError
		if !errors.As(err, &usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := f.notes(); len(got) > 0 {
		t.Errorf("the backend saw %q", got)
	}
}

// raw sends a request with these headers and returns the answer's status; 0 if the server cut the connection instead.
func raw(t *testing.T, socket, method, path, header, body string) (code int, text string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The server may answer and close before it has read everything.
	go fmt.Fprintf(conn, "%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", method, path, header, len(body), body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, fmt.Sprint(string(b), err)
}

func TestRequestsNotFromOurClientAreRefused(t *testing.T) {
	f := newFake()
	socket := serve(t, f, everyone)
	for name, test := range map[string]struct {
		header, body string
		want         int
		says         string
	}{
		"web page": {"Host: keyd\r\nOrigin: https://evil.example\r\n", `{"keys":["a"]}`, 403,
			"does not answer web pages"},
		"null origin":   {"Host: keyd\r\nOrigin: null\r\n", `{"keys":["a"]}`, 403, "does not answer web pages"},
		"other host":    {"Host: localhost\r\n", `{"keys":["a"]}`, 403, "answers only to the host"},
		"unknown field": {"Host: keyd\r\n", `{"keys":["a"],"force":true}`, 400, "the request cannot be read: "},
		"two values":    {"Host: keyd\r\n", `{"keys":["a"]}{"keys":["b"]}`, 400, "something behind its JSON value"},
		"not JSON":      {"Host: keyd\r\n", `keys=a`, 400, "the request cannot be read: "},
	} {
		t.Run(name, func(t *testing.T) {
			if code, text := raw(t, socket, "POST", "/v1/rotate", test.header, test.body); code != test.want ||
				!strings.Contains(text, test.says) {
				t.Errorf("answered %d %s, want %d and %q", code, text, test.want, test.says)
			}
		})
	}
	for _, test := range []struct{ method, path, body, says string }{
		{"POST", "/v1/adopt", `{"key":"a","reason":"x"}`, "adopt needs the token of the adoption that was shown"},
		{"POST", "/v1/pause", `{"key":"a"}`, "a reason is required: the audit records it"},
		{"POST", "/v1/rotate", `{"keys":["a"],"compromise":true}`, "a compromise needs a reason: the audit records it"},
		{"POST", "/v1/prove", `{"key":"a/b"}`, "cannot be the name"},
		{"GET", "/v1/check?name=a/b", "", "cannot be the name"},
		{"GET", "/v1/audit?from=first", "", "from must be the number of an audit entry"},
		{"GET", "/v1/audit/export?format=pdf", "", "there is no export format "},
		{"GET", "/v1/audit/export?format=csv&since=today", "", "since must be an RFC 3339 time"},
	} {
		if code, text := raw(t, socket, test.method, test.path, "Host: keyd\r\n", test.body); code != 400 ||
			!strings.Contains(text, test.says) {
			t.Errorf("%s: answered %d %s, want %q", test.path, code, text, test.says)
		}
	}
	if got := f.notes(); len(got) > 0 {
		t.Errorf("the backend saw %q", got)
	}
}

func TestHugeHeaderIsCutOff(t *testing.T) {
	f := newFake()
	header := "Host: keyd\r\nX: " + strings.Repeat("x", 4*maxHeader) + "\r\n"
	// 431 is lost when the connection closes with much of the header unread.
	if code, text := raw(t, serve(t, f, everyone), "POST", "/v1/rotate", header, `{"keys":["a"]}`); code != 431 &&
		code != 0 {
		t.Errorf("answered %d %s", code, text)
	}
	if got := f.notes(); len(got) > 0 {
		t.Errorf("the backend saw %q", got)
	}
}

func TestThousandIdleConnectionsStarveNobody(t *testing.T) {
	socket := openDir(t) + "/keyd.sock"
	l, err := Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(newFake(), everyone, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	run(t, server, l)
	for i := range 1000 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer conn.Close()
	}
	if _, err := Dial(socket).Snapshot(t.Context(), status.Selection{}); err != nil {
		t.Fatal(err)
	}
	if testutil.ToFloat64(server.metrics.dropped) == 0 {
		t.Error("no idle connection was dropped for another one: it waited until some had timed out")
	}
}

func TestBusyConnectionsAreNotDroppedForNewOnes(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := c.Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	in := <-f.subscribed
	for range maxPerUID - 1 {
		if _, err := c.Subscribe(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Snapshot(ctx, status.Selection{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("one request too many: %v", err)
	}
	in <- status.Event{Key: "a"}
	if e, open := <-first; !open || e.Key != "a" {
		t.Errorf("the first stream got %+v, open %v", e, open)
	}
}

// ignore ignores how far a check is.
func ignore(status.Progress) {}

// A check may take long: whoever waits learns how far it is, and then what came of it.
func TestACheckTellsHowFarItIs(t *testing.T) {
	c := Dial(serve(t, newFake(), everyone))
	var told []string
	tell := func(p status.Progress) { told = append(told, p.Words()) }
	if _, err := c.Check(t.Context(), "a", tell); err != nil || !slices.Equal(told, []string{"1 of 2 keys checked"}) {
		t.Errorf("%q, %v", told, err)
	}
	var usage *UsageError
	if _, err := c.Check(t.Context(), "unknown", ignore); !errors.As(err, &usage) {
		t.Errorf("refused at once: %v", err)
	}
	told = nil
	if _, err := c.Check(t.Context(), "broken", tell); err == nil || !strings.Contains(err.Error(), "store is gone") ||
		len(told) != 1 {
		t.Errorf("failed in the middle: %q, %v", told, err)
	}
}

// stuck is a Backend whose checks end only when their requests do.
type stuck struct {
	*fake
	begun chan struct{}
}

func (s stuck) Check(ctx context.Context, _ string, _ func(status.Progress)) (status.Checked, error) {
	s.begun <- struct{}{}
	<-ctx.Done()
	return status.Checked{}, ctx.Err()
}

func TestBusyReadersDoNotDelayAnOperator(t *testing.T) {
	var operator atomic.Bool
	b := stuck{newFake(), make(chan struct{}, maxSlow)}
	c := Dial(serve(t, b, func(uint32, []uint32) (read, act bool) { return true, operator.Load() }))
	busy, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel()
	for range maxSlow {
		readers.Go(func() { _, _ = c.Check(busy, "", ignore) })
		<-b.begun
	}
	ctx, done := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer done()
	if _, err := c.Plan(ctx); err == nil {
		t.Error("a reader's slow requests have no limit")
	}
	operator.Store(true)
	if _, err := c.Plan(t.Context()); err != nil {
		t.Errorf("an operator's request: %v", err)
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	path := openDir(t) + "/keyd.sock"
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	stop := serveOn(t, l, newFake(), everyone)
	events, _, err := Dial(path).open(t.Context(), http.MethodGet, "/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	stop()
	if b, err := io.ReadAll(events); err != nil || len(b) > 0 {
		t.Errorf("the stream has %q and did not end in good order: %v", b, err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestNoDaemonIsUnreachable(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(dir+"/none.sock").Snapshot(t.Context(), status.Selection{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("no socket: %v", err)
	}
	leaveDead(t, dir+"/dead.sock")
	if _, err := Dial(dir+"/dead.sock").Snapshot(t.Context(), status.Selection{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dead socket: %v", err)
	}
}

// Whoever acts as root could be anybody, and a user without a known login stands for themselves.
func TestAPersonIsKnownByTheirLogin(t *testing.T) {
	for _, c := range []struct {
		actor Actor
		login string
	}{
		{Actor{UID: 0, Name: "root"}, ""},
		{Actor{UID: 0, Name: "root", Login: "anna"}, "anna"},
		{Actor{UID: 1000, Name: "anna"}, "anna"},
		{Actor{UID: 1001, Name: "bob", Login: "anna"}, "anna"},
		{Actor{UID: 1002}, ""},
	} {
		if p := c.actor.Person(); p.Login != c.login || p.UID != c.actor.UID || p.Actor != c.actor.String() {
			t.Errorf("%s is %+v, want login %q", c.actor, p, c.login)
		}
	}
}
