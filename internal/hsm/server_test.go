package hsm

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/key"
)

// fakeCalls answers from what a test puts in, and holds every Generate until
// release is closed.
type fakeCalls struct {
	release chan struct{}
	begun   chan struct{}
	objects []key.Object
	public  *rsa.PublicKey
	err     error
}

func (f *fakeCalls) Describe(context.Context) (description, error) {
	return description{HSMInfo: key.HSMInfo{Token: "fake", Degraded: "no PIN", PINRefused: true}}, f.err
}

func (f *fakeCalls) Inventory(_ context.Context, after key.ID) (inventoryResult, error) {
	for i, o := range f.objects {
		if o.ID > after {
			return inventoryResult{Objects: f.objects[i : i+1], More: i+1 < len(f.objects)}, f.err
		}
	}
	return inventoryResult{}, f.err
}

func (f *fakeCalls) Generate(context.Context, key.ID, string, int, key.Spec) error {
	if f.begun != nil {
		close(f.begun)
	}
	if f.release != nil {
		<-f.release
	}
	return f.err
}

func (f *fakeCalls) PublicKey(context.Context, key.ID) (*rsa.PublicKey, error) {
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
func (f *fakeCalls) AuditKey(context.Context) (*rsa.PublicKey, bool, error) {
	return f.public, f.public != nil, f.err
}
func (f *fakeCalls) MakeAuditKey(context.Context) (*rsa.PublicKey, error) {
	return f.public, f.err
}
func (f *fakeCalls) SignCheckpoint(_ context.Context, c key.Checkpoint) ([]byte, error) {
	return c.Message(), f.err
}

// transports are the two ways to reach a server. Each returns a client and a
// function that breaks its connection.
func transports(t *testing.T) map[string]func(calls) (*Client, func()) {
	t.Helper()
	return map[string]func(calls) (*Client, func()){
		"socket pair": func(c calls) (*Client, func()) {
			ours, theirs, err := socketPair()
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.FileConn(theirs)
			if err := errors.Join(err, theirs.Close()); err != nil {
				t.Fatal(err)
			}
			serve(t, func(ctx context.Context, s *server) error { defer conn.Close(); return s.serveConn(ctx, conn) }, c)
			return newClient(fixed{newLink(ours)}, Timeouts{}, newMetrics(prometheus.NewRegistry())), func() { _ = conn.Close() }
		},
		"unix socket": func(c calls) (*Client, func()) {
			path := filepath.Join(t.TempDir(), "hsm.sock")
			l, err := Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			serve(t, func(ctx context.Context, s *server) error { return s.serveListener(ctx, l) }, c)
			client := Dial(path, Timeouts{}, prometheus.NewRegistry())
			t.Cleanup(client.Close)
			return client, func() { client.Close() }
		},
	}
}

type fixed struct{ l *link }

func (f fixed) link(context.Context) (*link, error) { return f.l, nil }

func serve(t *testing.T, f func(context.Context, *server) error, c calls) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = f(ctx, &server{calls: c, log: slog.New(slog.DiscardHandler), uids: []int{os.Getuid()}}) })
	t.Cleanup(func() { cancel(); done.Wait() })
}

func TestEveryCallPassesEveryTransport(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			kek, _ := newKEK(t, vaultURL)
			objects := []key.Object{
				{ID: "00000000000000000000000000000001", Label: key.Label{Instance: "test", Key: "a", Number: 1}, Complete: true, Public: kek.Public},
				{ID: "00000000000000000000000000000002", Problem: "half"},
			}
			c, _ := connect(&fakeCalls{objects: objects, public: kek.Public})
			ctx, id := t.Context(), objects[0].ID
			if info, err := c.Describe(ctx); err != nil || info.Token != "fake" {
				t.Errorf("Describe: %+v, %v", info, err)
			}
			if testutil.ToFloat64(c.metrics.pinRefused) != 1 || testutil.ToFloat64(c.metrics.up) != 1 {
				t.Error("the refused PIN does not show in the metrics")
			}
			got, err := c.Inventory(ctx)
			if diff := cmp.Diff(objects, got, cmp.Comparer(func(a, b *rsa.PublicKey) bool { return a == b || a != nil && b != nil && a.Equal(b) })); diff != "" || err != nil {
				t.Errorf("Inventory: %v %s", err, diff)
			}
			if err := c.Generate(ctx, id, "a", 1, key.RSA2048); err != nil {
				t.Errorf("Generate: %v", err)
			}
			if pub, err := c.PublicKey(ctx, id); err != nil || !pub.Equal(kek.Public) {
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
			if pub, present, err := c.AuditKey(ctx); err != nil || !present || !pub.Equal(kek.Public) {
				t.Errorf("AuditKey: %v, %v", present, err)
			}
			if pub, err := c.MakeAuditKey(ctx); err != nil || !pub.Equal(kek.Public) {
				t.Errorf("MakeAuditKey: %v", err)
			}
			if out, err := c.SignCheckpoint(ctx, checkpoint()); err != nil || !bytes.Equal(out, checkpoint().Message()) {
				t.Errorf("SignCheckpoint: %q, %v", out, err)
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
			go func() { done <- c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048) }()
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
			go func() { done <- c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048) }()
			<-f.begun
			cut()
			wantCode(t, <-done, Connection, key.Ambiguous)
			close(f.release)
		})
	}
}

func TestAnImpatientCallerLeaves(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			f := &fakeCalls{release: make(chan struct{})}
			c, _ := connect(f)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			wantCode(t, c.Generate(ctx, newID(t), "a", 1, key.RSA2048), Busy, key.Ambiguous)
			close(f.release)
		})
	}
}

func TestACallBeforeItsRequestIsWrittenIsRetry(t *testing.T) {
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	l := newLink(ours)
	c := newClient(fixed{l}, Timeouts{}, newMetrics(prometheus.NewRegistry()))
	<-l.done
	wantCode(t, c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048), Connection, key.Retry)
	_, err = Dial(filepath.Join(t.TempDir(), "none"), Timeouts{}, prometheus.NewRegistry()).Describe(t.Context())
	wantCode(t, err, Connection, key.Retry)
	if !strings.Contains(err.Error(), "systemctl status keyd-hsm") {
		t.Errorf("the error gives no help: %v", err)
	}
}

func TestAClientConnectsAgain(t *testing.T) {
	c, cut := transports(t)["unix socket"](&fakeCalls{})
	for range 3 {
		if _, err := c.Describe(t.Context()); err != nil {
			t.Fatal(err)
		}
		cut()
	}
}

func TestAMalformedFrameEndsTheConnection(t *testing.T) {
	good, err := request{ID: 1, Method: "Describe", TimeoutMS: 1000}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string][]byte{
		"no request":     frame("{"),
		"a method cut":   frame("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x09Describe"),
		"no method":      frame("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00"),
		"no id":          frame("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x08Describe"),
		"no timeout":     frame("\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x08Describe"),
		"an empty frame": {0, 0, 0, 0},
		"too long":       {0, 16, 0, 1},
		"cut short":      good[:len(good)-1],
	} {
		t.Run(name, func(t *testing.T) {
			a, b := net.Pipe()
			defer a.Close()
			defer b.Close()
			s := &server{calls: &fakeCalls{}, log: slog.New(slog.DiscardHandler)}
			ended := make(chan error)
			go func() { ended <- s.serveConn(context.Background(), b) }()
			go func() {
				_, _ = a.Write(sent)
				if name == "cut short" {
					_ = a.Close()
				}
			}()
			if err := <-ended; err == nil {
				t.Error("it was taken for a good end")
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
	s := &server{calls: &fakeCalls{}, log: slog.New(slog.DiscardHandler), uids: []int{os.Getuid() + 1}}
	go func() { done <- s.serveListener(ctx, l) }()
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
	if _, err := Listen(path); err == nil {
		t.Error("a second listener took the socket")
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

func FuzzRequest(f *testing.F) {
	for method, params := range map[string]string{
		"Describe": ``,
		"Opens":    `{"id":"00112233445566778899aabbccddeeff","ciphertext":"AA==","sha256":"AA=="}`,
		"WrapFor":  `{"id":"00112233445566778899aabbccddeeff","kek":{"vault":"v","kid":"k","public":{"N":5,"E":3}}}`,
	} {
		seed, err := request{ID: 1, Method: method, TimeoutMS: 1, Params: []byte(params)}.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			body, err := readFrame(r)
			if err != nil {
				return
			}
			if len(body) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(body))
			}
			req, err := decodeRequest(body)
			if err != nil {
				return
			}
			result, err := dispatch(context.Background(), &fakeCalls{}, req.Method, req.Params)
			if err == nil {
				if _, err := json.Marshal(result); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01r{}"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00e" + `{"code":"hung","class":"retry","message":"m"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		resp, err := decodeResponse(data)
		if err == nil && (resp.Error == nil) == (resp.Result == nil) {
			t.Fatal("neither or both")
		}
	})
}

func TestARequestAndAResponseArriveAsSent(t *testing.T) {
	sent := request{ID: 1 << 40, Method: "Opens", TimeoutMS: 20000, Params: []byte(`{"id":"x"}`)}
	frame, err := sent.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRequest(frame[4:]); err != nil || !cmp.Equal(got, sent) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, sent := range []response{
		{ID: 7, Result: []byte(`{}`)},
		{Error: &wireError{Code: Hung, Class: "retry", Message: "the end"}},
	} {
		frame, err := sent.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeResponse(frame[4:]); err != nil || !cmp.Equal(got, sent) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := (response{ID: 1, Result: make([]byte, maxFrame)}).encode(); err == nil {
		t.Error("a frame over the limit was made")
	}
}
