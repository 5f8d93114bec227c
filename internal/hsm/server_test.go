package hsm

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// fakeCalls returns the answers that a test sets. It holds every Generate until release is closed.
type fakeCalls struct {
	release chan struct{}
	begun   chan struct{}
	waiting atomic.Int32 // in Generate
	objects []key.Object
	ids     []key.ID
	public  key.Material
	err     error
}

func (f *fakeCalls) NewIDs(context.Context) ([]key.ID, error) { return f.ids, f.err }

func (f *fakeCalls) Describe(context.Context) (description, error) {
	return description{HSMInfo: key.HSMInfo{Token: "fake", Degraded: "no PIN", PINRefused: true}}, f.err
}

func (f *fakeCalls) Inventory(context.Context) ([]key.Object, error) { return f.objects, f.err }

func (f *fakeCalls) Find(_ context.Context, id key.ID) ([]key.Object, error) {
	for _, o := range f.objects {
		if o.ID == id {
			return []key.Object{o}, f.err
		}
	}
	return nil, f.err
}

func (f *fakeCalls) MayGenerate(context.Context, string, int, key.Spec) error { return f.err }

func (f *fakeCalls) Generate(context.Context, key.ID, string, int, key.Spec, key.ID) error {
	if f.begun != nil {
		close(f.begun)
	}
	f.waiting.Add(1)
	if f.release != nil {
		<-f.release
	}
	return f.err
}

func (f *fakeCalls) PublicKey(context.Context, key.ID) (key.Material, error) {
	return f.public, f.err
}
func (f *fakeCalls) CheckKEK(context.Context, key.KEK) (string, error) { return FirstUse, f.err }
func (f *fakeCalls) WrapFor(_ context.Context, _ key.ID, kek key.KEK) ([]byte, error) {
	return []byte(kek.Kid), f.err
}
func (f *fakeCalls) Opens(_ context.Context, _ key.ID, ciphertext []byte, sum [32]byte) (bool, error) {
	return bytes.Equal(ciphertext, sum[:]), f.err
}
func (f *fakeCalls) Destroy(context.Context, key.ID) error { return f.err }
func (f *fakeCalls) AuditKey(context.Context) (key.Material, bool, error) {
	return f.public, f.public.Known(), f.err
}
func (f *fakeCalls) MakeAuditKey(context.Context) (key.Material, error) {
	return f.public, f.err
}
func (f *fakeCalls) Follow(context.Context, chain.Extension) error { return f.err }
func (f *fakeCalls) SignCheckpoint(_ context.Context, x chain.Extension) (key.SignedCheckpoint, bool, error) {
	return key.SignedCheckpoint{Signature: x.Head[:]}, true, f.err
}

// transports are the two ways to reach a server. Each returns a client, and a function that breaks its connections.
func transports(t *testing.T) map[string]func(calls) (*Client, func()) {
	t.Helper()
	connect := func(l net.Listener, d dialer, c calls) (*Client, func()) {
		serve(t, l, c)
		breakable := &breakable{dialer: d}
		client := newClient(breakable, Timeouts{}, newMetrics(prometheus.NewRegistry()))
		t.Cleanup(client.Close)
		return client, breakable.cut
	}
	return map[string]func(calls) (*Client, func()){
		"handed over": func(c calls) (*Client, func()) {
			ours, theirs, err := socketPair()
			if err != nil {
				t.Fatal(err)
			}
			control, err := unixConn(theirs)
			if err != nil {
				t.Fatal(err)
			}
			p := newProcess(ours)
			t.Cleanup(func() { _ = ours.Close(); <-p.ended })
			return connect(&handed{control}, p, c)
		},
		"unix socket": func(c calls) (*Client, func()) {
			path := filepath.Join(t.TempDir(), "hsm.sock")
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			return connect(l, socketPath(path), c)
		},
	}
}

// breakable remembers the connections that it made.
type breakable struct {
	dialer
	mu   sync.Mutex
	made []net.Conn
}

func (b *breakable) dial(ctx context.Context) (net.Conn, error) {
	conn, err := b.dialer.dial(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.made = append(b.made, conn)
	}
	return conn, err
}

// cut breaks the connections as if the other side had ended.
func (b *breakable) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.made {
		_ = conn.(*net.UnixConn).CloseRead()
		_ = conn.(*net.UnixConn).CloseWrite()
	}
	b.made = nil
}

// fixed is one connection.
type fixed struct{ net.Conn }

func (f fixed) dial(context.Context) (net.Conn, error) { return f.Conn, nil }

func serve(t *testing.T, l net.Listener, c calls) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	s := &server{calls: c, permitted: unread, log: slog.New(slog.DiscardHandler), uids: []int{os.Getuid()}}
	done.Go(func() { _ = s.serve(ctx, l) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

func TestEveryCallWorksOverEveryTransport(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			kek, _ := newKEK(t, vaultURL)
			objects := []key.Object{
				{
					ID:       "00000000000000000000000000000001",
					Label:    key.Label{Instance: "test", Key: "a", Number: 1},
					Complete: true,
					Material: kek.Material,
				},
				{ID: "00000000000000000000000000000002", Problem: "half", Material: key.UnreadableMaterial()},
			}
			c, _ := connect(&fakeCalls{objects: objects, public: kek.Material})
			ctx, id := t.Context(), objects[0].ID
			if info, err := c.Describe(ctx); err != nil || info.Token != "fake" {
				t.Errorf("Describe: %+v, %v", info, err)
			}
			if testutil.ToFloat64(c.metrics.pinRefused) != 1 || testutil.ToFloat64(c.metrics.up) != 1 {
				t.Error("the refused PIN does not show in the metrics")
			}
			got, err := c.Inventory(ctx)
			same := cmp.Comparer(func(a, b key.Material) bool { return a == b })
			if diff := cmp.Diff(objects, got, same); diff != "" || err != nil {
				t.Errorf("Inventory: %v %s", err, diff)
			}
			if found, err := c.Find(ctx, id); err != nil || len(found) != 1 || found[0] != objects[0] {
				t.Errorf("Find: %+v, %v", found, err)
			}
			if found, err := c.Find(ctx, objects[1].ID); err != nil || len(found) != 1 || found[0].Complete {
				t.Errorf("Find half a pair: %+v, %v", found, err)
			}
			if err := c.Generate(ctx, id, "a", 1, key.RSA2048, objects[1].ID); err != nil {
				t.Errorf("Generate: %v", err)
			}
			if pub, err := c.PublicKey(ctx, id); err != nil || pub != kek.Material {
				t.Errorf("PublicKey: %v", err)
			}
			if how, err := c.CheckKEK(ctx, kek); err != nil || how != FirstUse {
				t.Errorf("CheckKEK: %q, %v", how, err)
			}
			if out, err := c.WrapFor(ctx, id, kek); err != nil || string(out) != kek.Kid {
				t.Errorf("WrapFor: %q, %v", out, err)
			}
			sum := [32]byte{1, 2, 3}
			if yes, err := c.Opens(ctx, id, sum[:], sum); err != nil || !yes {
				t.Errorf("Opens: %v, %v", yes, err)
			}
			if err := c.Destroy(ctx, id); err != nil {
				t.Errorf("Destroy: %v", err)
			}
			if pub, present, err := c.AuditKey(ctx); err != nil || !present || pub != kek.Material {
				t.Errorf("AuditKey: %v, %v", present, err)
			}
			if pub, err := c.MakeAuditKey(ctx); err != nil || pub != kek.Material {
				t.Errorf("MakeAuditKey: %v", err)
			}
			x := entries(1, 3).after(nil)
			if out, missed, err := c.SignCheckpoint(ctx, x); err != nil || !missed ||
				!bytes.Equal(out.Signature, x.Head[:]) {
				t.Errorf("SignCheckpoint: %v, %v, %v", out, missed, err)
			}
		})
	}
}

// Each id that the HSM side drew is given out once. What the client draws itself is no worse, only dearer.
func TestAnIDForAPairComesFromTheHSMSideIfItAnswers(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			drawn := []key.ID{newID(t), newID(t)}
			f := &fakeCalls{ids: drawn}
			c, _ := connect(f)
			next := func() key.ID {
				t.Helper()
				id, err := c.NewID(t.Context())
				if err != nil || validID(id) != nil {
					t.Errorf("%q, %v", id, err)
				}
				return id
			}
			if a, b := next(), next(); a != drawn[0] || b != drawn[1] {
				t.Errorf("%s and %s, not %s", a, b, drawn)
			}
			f.err = refused(Unable, "it cannot")
			if a, b := next(), next(); a == b || slices.Contains(drawn, a) || slices.Contains(drawn, b) {
				t.Errorf("%s and %s while the HSM side cannot answer", a, b)
			}
		})
	}
}

func TestErrorsKeepCodeClassAndText(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			c, _ := connect(&fakeCalls{err: refused(NotPending, "it is never destroyed")})
			err := c.Destroy(t.Context(), newID(t))
			wantCode(t, err, NotPending, key.Refused)
			if err == nil || err.Error() != "it is never destroyed" {
				t.Errorf("the text is %v", err)
			}
			_, err = c.PublicKey(t.Context(), "not an id")
			wantCode(t, err, BadRequest, key.Refused)
		})
	}
}

func TestCallsDoNotWaitForEachOther(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			f := &fakeCalls{release: make(chan struct{}), begun: make(chan struct{})}
			c, _ := connect(f)
			done := make(chan error)
			go func() { done <- c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048, "") }()
			<-f.begun
			if _, err := c.Describe(t.Context()); err != nil {
				t.Error(err)
			}
			close(f.release)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestABrokenConnectionIsAmbiguousForGenerateOnly(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			f := &fakeCalls{release: make(chan struct{}), begun: make(chan struct{})}
			c, cut := connect(f)
			done := make(chan error)
			go func() { done <- c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048, "") }()
			<-f.begun
			cut()
			wantCode(t, <-done, Connection, key.Ambiguous)
			close(f.release)
		})
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			f := &fakeCalls{release: make(chan struct{}), begun: make(chan struct{})}
			c, _ := connect(f)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-f.begun; cancel() }() // a call that was not sent yet would not be ambiguous
			wantCode(t, c.Generate(ctx, newID(t), "a", 1, key.RSA2048, ""), Busy, key.Ambiguous)
			close(f.release)
		})
	}
}

func TestACallThatWasNotSentMayBeRetried(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	c := newClient(fixed{ours}, Timeouts{}, newMetrics(prometheus.NewRegistry()))
	wantCode(t, c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048, ""), Connection, key.Retry)
	_, err = Dial(filepath.Join(t.TempDir(), "none"), Timeouts{}, prometheus.NewRegistry()).Describe(t.Context())
	wantCode(t, err, Connection, key.Retry)
	if !strings.Contains(err.Error(), "systemctl status keyd-hsm") {
		t.Errorf("the error gives no help: %v", err)
	}
}

func TestAClientConnectsAgain(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			c, cut := connect(&fakeCalls{})
			for range 3 {
				if _, err := c.Describe(t.Context()); err != nil {
					t.Fatal(err)
				}
				cut()
			}
		})
	}
}

func TestTheEndOfTheHSMSideIsSeenWithoutACall(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			c, cut := connect(&fakeCalls{})
			if _, err := c.Describe(t.Context()); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.AwaitEnd(t.Context()) }()
			eventually(t, "the end is seen", func() bool {
				cut()
				return len(ended) == 1
			})
			wantCode(t, <-ended, Connection, key.Retry)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := c.AwaitEnd(ctx); err != nil {
				t.Errorf("when nobody waits any more: %v", err)
			}
		})
	}
}

func TestAMalformedFrameEndsTheConnection(t *testing.T) {
	good, err := request{Method: "Describe", TimeoutMS: 1000}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string][]byte{
		"no request":     frame("{"),
		"a method cut":   frame("\x00\x00\x00\x01\x00\x09Describe"),
		"no method":      frame("\x00\x00\x00\x01\x00\x00"),
		"no timeout":     frame("\x00\x00\x00\x00\x00\x08Describe"),
		"no such class":  frame("\x00\x00\x00\x01\x63\x08Describe"),
		"an empty frame": {0, 0, 0, 0},
		"too long":       {0, 16, 0, 1},
		"cut short":      good[:len(good)-1],
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			s := &server{calls: &fakeCalls{}, permitted: unread, log: slog.New(slog.DiscardHandler)}
			ended := make(chan error)
			go func() { ended <- s.serveConn(context.Background(), b) }()
			go func() {
				_, _ = a.Write(sent)
				if name == "cut short" {
					_ = a.Close()
				}
			}()
			if err := <-ended; err == nil {
				t.Error("the connection ended without an error")
			}
		})
	}
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestOnlyAllowedUsersMayConnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	s := &server{
		calls:     &fakeCalls{},
		permitted: unread,
		log:       slog.New(slog.DiscardHandler),
		uids:      []int{os.Getuid() + 1},
	}
	go func() { done <- s.serve(ctx, l) }()
	c := Dial(path, Timeouts{}, prometheus.NewRegistry())
	_, err = c.Describe(t.Context())
	if !IsCode(err, Connection) {
		t.Errorf("a stranger got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestALiveSocketIsNeverRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("a second listener: %v", err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "none", "hsm.sock")); err == nil ||
		strings.Contains(err.Error(), "served by") {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatalf("after the first was closed: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestASocketLeftByACrashIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := os.WriteFile(path, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file was replaced by a socket")
	}
}

// A process forks before it executes. Until then, the child has its parent's descriptors.
func TestALockIsReleasedEvenIfAChildHasACopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	held, err := unix.Dup(int(first.(*socket).lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(held) }()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
