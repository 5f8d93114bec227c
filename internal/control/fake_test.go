package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const requestID = key.ID("00112233445566778899aabbccddeeff")

// fake is a Backend that answers from its fields and notes who did what.
type fake struct {
	mu   sync.Mutex
	snap status.Snapshot
	// selected is what the last snapshot was asked for.
	selected status.Selection
	done     []string
	err      error // every changing call's answer
	audit    []AuditEntry
	broken   error // ends Audit and Backup after what they wrote
	// subscribed gets each subscription's channel.
	subscribed chan chan status.Event
}

func newFake() *fake { return &fake{subscribed: make(chan chan status.Event, 100)} }

func (f *fake) note(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = append(f.done, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fake) notes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.done...)
}

func (f *fake) setSnapshot(s status.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snap = s
}

func (f *fake) Snapshot(sel status.Selection) status.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selected = sel
	return f.snap
}

func (f *fake) Subscribe(ctx context.Context) <-chan status.Event {
	in, out := make(chan status.Event), make(chan status.Event)
	go func() {
		defer close(out)
		for {
			select {
			case e, open := <-in:
				if !open {
					return
				}
				out <- e
			case <-ctx.Done():
				return
			}
		}
	}()
	f.subscribed <- in
	return out
}

func (f *fake) Rotate(_ context.Context, actor string, o RotateOptions) ([]Accepted, error) {
	if err := f.note("%s rotates %v: %s", actor, o.Keys, o.Reason); err != nil {
		return nil, err
	}
	var out []Accepted
	for _, k := range o.Keys {
		out = append(out, Accepted{Key: k, Request: requestID})
	}
	return out, nil
}

func (f *fake) RotateKEK(_ context.Context, actor, vault, reason string) (KEKAccepted, error) {
	return KEKAccepted{Vault: vault, Request: requestID}, f.note("%s rotates the KEK of %s: %s", actor, vault, reason)
}

func (f *fake) Pause(_ context.Context, actor, k, reason string) error {
	return f.note("%s pauses %s: %s", actor, k, reason)
}

func (f *fake) Resume(_ context.Context, actor, k, reason string) error {
	return f.note("%s resumes %s: %s", actor, k, reason)
}

func (f *fake) Acknowledge(_ context.Context, actor, k, reason string) error {
	return f.note("%s acknowledges %s: %s", actor, k, reason)
}

func (f *fake) Prove(_ context.Context, actor, k string) ([]status.Proof, error) {
	return []status.Proof{{Version: "v1", Outcome: key.Passed}}, f.note("%s has %s proven", actor, k)
}

func (f *fake) Adoption(_ context.Context, k string, unreserved bool) (status.Adoption, error) {
	if unreserved {
		return status.Adoption{Key: k, Token: "t2"}, nil
	}
	return status.Adoption{Key: k, Token: "t1"}, nil
}

func (f *fake) Adopt(_ context.Context, actor, k, reason, token string) error {
	return f.note("%s adopts %s by %s: %s", actor, k, token, reason)
}

func (f *fake) Retirements(_ context.Context, q []RetireQuestion) (out []status.Retirement, err error) {
	for _, x := range q {
		out = append(out, status.Retirement{Key: x.Key, Digest: "d1", Never: x.Rule != nil && x.Rule.Never()})
	}
	return out, nil
}

func (f *fake) ConsentToRetire(_ context.Context, actor, k, reason, digest string) error {
	return f.note("%s consents to retire %s by %s: %s", actor, k, digest, reason)
}

func (f *fake) Enable(_ context.Context, actor, k, version, reason string) error {
	return f.note("%s enables %s of %s: %s", actor, version, k, reason)
}

func (f *fake) Consumers(_ context.Context, k string, discover bool) ([]status.KeyConsumers, error) {
	return []status.KeyConsumers{{Key: k, Consumers: status.Consumers{Searched: discover}}}, nil
}

func (f *fake) Repoint(_ context.Context, actor, k, reason string, consumers []string) error {
	return f.note("%s moves %v of %s: %s", actor, consumers, k, reason)
}

func (f *fake) Replacements(_ context.Context, o ReplaceOptions) ([]status.Replacement, error) {
	return []status.Replacement{{Key: o.Key, With: o.With, Vault: o.Vault, Digest: "sha256:shown"}}, nil
}

func (f *fake) Replace(_ context.Context, actor, reason string, o ReplaceOptions) error {
	return f.note("%s replaces %s with %s in %q, %q, as in %q: %s", actor, o.Key, o.With, o.Vault, o.Step, o.Digest,
		reason)
}

func (f *fake) Approve(ctx context.Context, id key.ID, reason string) error {
	return f.note("%s approves %s: %s", ActorOf(ctx), id, reason)
}

func (f *fake) Withdraw(ctx context.Context, id key.ID, reason string) error {
	return f.note("%s withdraws %s: %s", ActorOf(ctx), id, reason)
}

func (f *fake) Explain(_ context.Context, k string) (status.Explanation, error) {
	if k != "a" {
		return status.Explanation{}, &UsageError{Text: "there is no key " + k}
	}
	next := status.Planned{Key: k, Step: "idle"}
	return status.Explanation{Rules: []status.RuleAnswer{{Rule: "held", Asked: true}}, Next: next}, nil
}

func (f *fake) Settings(context.Context) (status.Settings, error) {
	return status.Settings{NeedsApproval: true, InForce: map[string]map[string]string{"": {"control.group": "g"}}}, nil
}

func (f *fake) Plan(context.Context) ([]status.Planned, error) {
	return []status.Planned{{Key: "a", Step: "idle"}}, nil
}

func (f *fake) Check(_ context.Context, name string, tell func(status.Progress)) (status.Checked, error) {
	if name == "unknown" {
		return status.Checked{}, &UsageError{Text: "there is no key and no vault unknown"}
	}
	tell(status.Progress{Done: 1, Of: 2, What: "keys"})
	if name == "broken" {
		return status.Checked{}, errors.New("the store is gone")
	}
	return status.Summed([]status.Check{{Area: "hsm", Subject: name, Result: status.CheckOK}}), nil
}

func (f *fake) AcceptStore(_ context.Context, actor, reason string) error {
	return f.note("%s accepts the store: %s", actor, reason)
}

func (f *fake) Reload(_ context.Context, actor string) error { return f.note("%s reloads", actor) }

func (f *fake) Audit(_ context.Context, from uint64, k string, fn func(AuditEntry) error) error {
	for _, e := range f.audit {
		if e.Seq >= from && (k == "" || e.Key == k) {
			if err := fn(e); err != nil {
				return err
			}
		}
	}
	return f.broken
}

func (f *fake) VerifyAudit(context.Context) (AuditReport, error) {
	return AuditReport{Entries: 3, Head: "abc", Consistent: true}, nil
}

func (f *fake) ExportAudit(_ context.Context, r audit.Request, w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s of %s from %v to %v", r.Format, r.Key, r.Since.UTC(), r.Until.UTC()); err != nil {
		return err
	}
	return f.broken
}

func (f *fake) AuditKey(context.Context) (AuditKey, error) {
	return AuditKey{Fingerprint: "sha256:ab", PEM: "-----BEGIN"}, nil
}

func (f *fake) Checkpoint(_ context.Context, actor string) (key.Checkpoint, error) {
	return key.Checkpoint{Seq: 3, Head: "sha256:cd"}, f.note("%s has the audit signed", actor)
}

func (f *fake) Backup(_ context.Context, actor string, w io.Writer) error {
	if err := f.note("%s backs up", actor); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "the state"); err != nil {
		return err
	}
	return f.broken
}

// everyone lets every peer do everything.
func everyone(uint32, []uint32) (read, act bool) { return true, true }

// openDir is a directory that other users may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve runs a server until the test ends, and returns its socket.
func serve(t *testing.T, b Backend, a Authoriser) string {
	t.Helper()
	path := filepath.Join(openDir(t), "keyd.sock")
	l, err := Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, b, a)
	return path
}

// serveOn returns a function that stops the server, which the test's end does
// as well.
func serveOn(t *testing.T, l net.Listener, b Backend, a Authoriser) (stop func()) {
	t.Helper()
	return run(t, NewServer(b, a, slog.New(slog.DiscardHandler), prometheus.NewRegistry()), l)
}

func run(t *testing.T, server *Server, l net.Listener) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
