package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyd": main})
}

// TestScripts runs every command against a daemon with a fake backend. A script's name chooses the world that it
// sees.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[runningKey{}] = &running{}
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise every command takes a second
			env.Setenv("KEYD_SOCKET", filepath.Join(env.WorkDir, "keyd.sock"))
			env.Setenv("ME", me())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"answers":     serveAnswer,
			"brokenpipe":  brokenPipe,
			"daemon":      startDaemon,
			"exitcode":    exitCodeIs,
			"expand":      expandWork,
			"fails":       wantFailure,
			"listens":     serveNothing,
			"obeymodes":   obeyModes,
			"runs":        runDaemon,
			"stalesocket": staleSocket,
			"terminal":    onTerminal,
			"waitasked":   waitAsked,
		},
		UpdateScripts: os.Getenv("UPDATE_GOLDEN") != "",
	})
}

// startDaemon serves a world in place of the previous one: daemon NAME.
func startDaemon(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: daemon WORLD")
	}
	b, known := worlds()[args[0]]
	if !known {
		ts.Fatalf("there is no world %q", args[0])
	}
	now := ts.Value(runningKey{}).(*running)
	now.end(ts)
	now.world = b
	l, err := control.Listen(ts.Getenv("KEYD_SOCKET"), "")
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	may := func(uint32, []uint32) (read, act bool) { return args[0] != "strangers", args[0] != "readers" }
	server := control.NewServer(b, may, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	now.stop = func() error {
		cancel()
		return <-ended
	}
	ts.Defer(func() { now.end(ts) })
}

// runningKey is the key under which a script finds its world.
type runningKey struct{}

type running struct {
	world *world
	stop  func() error
}

func (r *running) end(ts *testscript.TestScript) {
	if r.stop != nil {
		ts.Check(r.stop())
	}
	r.stop = nil
}

// brokenPipe runs a command whose reader has gone, and requires that it ends by SIGPIPE without output: brokenpipe
// keyd ….
func brokenPipe(ts *testscript.TestScript, _ bool, args []string) {
	r, w, err := os.Pipe()
	ts.Check(errors.Join(err, r.Close()))
	defer w.Close()
	self, err := os.Executable()
	ts.Check(err)
	var said strings.Builder
	cmd := &exec.Cmd{Path: self, Args: args, Env: environment(ts), Stdout: w, Stderr: &said}
	err = cmd.Run()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE || said.Len() > 0 {
		ts.Fatalf("%v, saying %q", err, said.String())
	}
}

// staleSocket leaves a socket that nobody serves: stalesocket FILE.
func staleSocket(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: ts.MkAbs(args[0]), Net: "unix"})
	ts.Check(err)
	l.SetUnlinkOnClose(false)
	ts.Check(l.Close())
}

// waitAsked returns once a command has requested a rotation.
func waitAsked(ts *testscript.TestScript, _ bool, _ []string) {
	select {
	case <-ts.Value(runningKey{}).(*running).world.asked:
	case <-time.After(terminalLimit):
		ts.Fatalf("nobody requested a rotation")
	}
}

// exitCodeIs runs a command and compares its exit code: exitcode N keyd ….
func exitCodeIs(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	var exit interface{ ExitCode() int }
	if errors.As(err, &exit) {
		got = string(rune('0' + exit.ExitCode()))
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

var errDisk = errors.New("the state's disk cannot be read")

// world is a backend with fixed answers.
type world struct {
	snap      status.Snapshot
	after     *status.Snapshot // once a rotation was requested; nil: as before
	checks    []status.Check
	adoption  status.Adoption
	consented bool // to the retire rule
	replaced  bool // a replacement has begun
	proposes  bool // every act needs a second operator
	report    control.AuditReport
	entries   []chain.Entry  // of the audit; nil: two
	steps     []status.Event // sent once a rotation was requested
	joined    bool
	backupErr error
	refusal   error // returned by every changing call
	mute      bool  // a subscription gets no answer
	slow      bool  // a request to rotate gets no answer
	asked     chan struct{}
}

func (w *world) Snapshot(sel status.Selection) status.Snapshot {
	s := w.snap
	select {
	case <-w.asked:
		if w.after != nil {
			s = *w.after
		}
	default:
	}
	s.Keys, s.Vaults, s.Problems = slices.Clone(s.Keys), slices.Clone(s.Vaults), slices.Clone(s.Problems)
	s.Summarise()
	s.Select(sel)
	return s
}

func (w *world) Subscribe(ctx context.Context) <-chan status.Event {
	events := make(chan status.Event)
	if w.mute {
		<-ctx.Done()
	}
	go func() {
		defer close(events)
		select {
		case <-w.asked:
		case <-ctx.Done():
			return
		}
		for _, e := range w.steps {
			select {
			case events <- e:
			case <-ctx.Done():
				return
			}
		}
		<-ctx.Done()
	}()
	return events
}

func (w *world) has(name string) error {
	if name == "" || slices.ContainsFunc(w.snap.Keys, func(k status.Key) bool { return k.Name == name }) {
		return nil
	}
	return &control.UsageError{Text: "there is no key " + name}
}

const request = key.ID("00112233445566778899aabbccddeeff")

func (w *world) Rotate(ctx context.Context, _ string, o control.RotateOptions) ([]control.Accepted, error) {
	if w.slow {
		close(w.asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	refusal := w.refusal
	if w.replaced {
		refusal = &control.RefusedError{
			Text: "key sa-cmk-key is replaced by sa-cmk-key-2, and its versions are disabled: " +
				"keyd replace sa-cmk-key --status",
		}
	}
	var out []control.Accepted
	for _, k := range o.Keys {
		if err := cmp.Or(w.has(k), refusal); err != nil {
			return nil, err
		}
		out = append(out, control.Accepted{Key: k, Request: request, Joined: w.joined})
	}
	close(w.asked)
	return out, nil
}

func (w *world) RotateKEK(_ context.Context, _, vault, _ string) (control.KEKAccepted, error) {
	if w.refusal != nil {
		return control.KEKAccepted{}, w.refusal
	}
	return control.KEKAccepted{Vault: vault, Request: request, Joined: w.joined}, nil
}

func (w *world) Pause(_ context.Context, _, k, _ string) error { return w.has(k) }
func (w *world) Resume(_ context.Context, _, k, _ string) error {
	if w.proposes {
		return secondOperator
	}
	return w.has(k)
}

func (w *world) Acknowledge(_ context.Context, _, k, _ string) error {
	return cmp.Or(w.has(k), w.refusal)
}

func (w *world) Prove(_ context.Context, _, k string) ([]status.Proof, error) {
	i := slices.IndexFunc(w.snap.Keys, func(x status.Key) bool { return x.Name == k })
	return w.snap.Keys[i].Proofs, w.refusal
}

func (w *world) Adoption(_ context.Context, k string, _ bool) (status.Adoption, error) {
	return w.adoption, w.has(k)
}

func (w *world) Adopt(_ context.Context, _, k, _, token string) error {
	if w.refusal != nil || token != w.adoption.Token {
		return &control.RefusedError{
			Text: "key " + k + " has changed since the last look: look again with keyd adopt " + k,
		}
	}
	return nil
}

func (w *world) Consumers(_ context.Context, name string, _ bool) (out []status.KeyConsumers, err error) {
	for _, k := range w.snap.Keys {
		if k.Consumers != nil && (name == "" || name == k.Name) {
			out = append(out, status.KeyConsumers{Key: k.Name, Consumers: *k.Consumers})
		}
	}
	if len(out) == 0 && name != "" {
		out = append(out, status.KeyConsumers{Key: name})
	}
	return out, w.has(name)
}

func (w *world) Plan(context.Context) ([]status.Planned, error) {
	return []status.Planned{
		{Key: "sa-cmk-key", Step: "idle", Why: "nothing is due"},
		{Key: "sql-tde", Step: "import", Generation: 3, Vault: "contoso-hsm", Why: "generation 3 is not there yet"},
	}, nil
}

func (w *world) Explain(_ context.Context, k string) (status.Explanation, error) {
	step := &status.Planned{
		Key: k, Step: "import", Generation: 3, Vault: "contoso-hsm", Why: "the vault does not have the generation",
	}
	return status.Explanation{Next: *step, Rules: []status.RuleAnswer{
		{Rule: "held", Says: "A held key stays as it is until an operator resumes it.", Asked: true},
		{Rule: "placement", Says: "Vaults get what they lack, one after the other.", Asked: true, Step: step},
		{Rule: "finished", Says: "A generation that is active in every vault is finished."},
	}}, w.has(k)
}

func (w *world) Settings(context.Context) (status.Settings, error) { return status.Settings{}, nil }

func (w *world) Check(_ context.Context, name string, _ func(status.Progress)) (status.Checked, error) {
	if name == "" {
		return status.Summed(w.checks), nil
	}
	return status.Summed(slices.DeleteFunc(slices.Clone(w.checks), func(c status.Check) bool {
		return c.Subject != name
	})), nil
}

func (w *world) Reload(context.Context, string) error { return w.refusal }

func (w *world) AcceptStore(context.Context, string, string) error { return w.refusal }

func (w *world) Audit(_ context.Context, from uint64, k string, fn func(control.AuditEntry) error) error {
	entries := []chain.Entry{
		{
			Time:   at(-48 * time.Hour),
			Key:    "sa-cmk-key",
			Event:  "generation reserved",
			Actor:  "schedule",
			Fields: map[string]string{"generation": "3"},
		},
		{
			Time:   at(-47 * time.Hour),
			Key:    "sql-tde",
			Event:  "hold",
			Actor:  "keyd",
			Fields: map[string]string{"reason": "a \x1b[2J version"},
		},
	}
	if w.entries != nil {
		entries = w.entries
	}
	for i, e := range entries {
		entry := control.AuditEntry{Seq: uint64(i + 1), Entry: e, Prev: "aa", Hash: "bb"}
		if entry.Seq < from || k != "" && k != e.Key {
			continue
		}
		if err := fn(entry); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) VerifyAudit(context.Context) (control.AuditReport, error) { return w.report, nil }

func (w *world) ExportAudit(_ context.Context, r audit.Request, out io.Writer) error {
	if r.Key != "" && w.has(r.Key) != nil {
		return &control.UsageError{Text: "the audit has no entry of a key " + r.Key}
	}
	_, err := fmt.Fprintf(out, "%s, key %q, since %v, until %v\n", r.Format, r.Key, r.Since.UTC(), r.Until.UTC())
	return err
}

func (w *world) AuditKey(context.Context) (control.AuditKey, error) {
	if len(w.snap.Keys) == 0 {
		return control.AuditKey{}, &control.RefusedError{
			Text: "the HSM has no audit key yet: keyd makes it with the first checkpoint; to take one " +
				"now: `keyd audit checkpoint`",
		}
	}
	return control.AuditKey{
		Fingerprint: "sha256:0123456789abcdef",
		PEM:         "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n",
	}, nil
}

func (w *world) Checkpoint(context.Context, string) (key.Checkpoint, error) {
	return key.Checkpoint{Instance: "hq-1", Seq: 2, Head: "sha256:bb", Time: at(0)}, nil
}

func (w *world) Backup(_ context.Context, _ string, out io.Writer) error {
	if _, err := io.WriteString(out, "the whole state\n"); err != nil {
		return err
	}
	return w.backupErr
}
