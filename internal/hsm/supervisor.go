package hsm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
)

// ChildConfig says how Supervisor starts and watches the HSM process.
type ChildConfig struct {
	Argv     []string  // program and arguments; the program must call ChildListener and Run
	Env      []string  // nil: this process's, without variables that only the network side needs
	Stderr   io.Writer // nil: this process's
	Limits   Timeouts
	Ping     time.Duration // between two pings; 0: 15 s
	Pause    Pause         // nil: exponential from 200 ms to 30 s with jitter
	Log      *slog.Logger
	Register prometheus.Registerer
}

// Pause returns how long to wait before the n-th restart in a row; n starts at 1.
type Pause func(n int) time.Duration

const (
	firstPause  = 200 * time.Millisecond
	maxPause    = 30 * time.Second
	steady      = 30 * time.Second // after this time, the pauses start again from the first
	startLimit  = 60 * time.Second // until the first answer, plus the time for login and self-test
	stopLimit   = 3 * time.Second  // time for the child to end by itself
	defaultPing = 15 * time.Second
)

func backoff(n int) time.Duration {
	d := min(maxPause, firstPause<<min(n-1, 10))
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

// Supervisor runs the HSM process as a child and starts it again whenever it ends.
type Supervisor struct {
	cfg     ChildConfig
	metrics *metrics
	client  *Client

	mu      sync.Mutex
	current *process      // nil while no child runs
	changed chan struct{} // closed when the state changes
	up      bool
	since   time.Time
	reason  error // why it is down
	pid     int
}

// NewSupervisor prepares a supervisor; Run starts the child.
func NewSupervisor(cfg ChildConfig) *Supervisor {
	if cfg.Env == nil {
		cfg.Env = childEnv(os.Environ())
	}
	if cfg.Stderr == nil {
		cfg.Stderr = os.Stderr
	}
	if cfg.Ping == 0 {
		cfg.Ping = defaultPing
	}
	if cfg.Pause == nil {
		cfg.Pause = backoff
	}
	s := &Supervisor{
		cfg:     cfg,
		metrics: newMetrics(cfg.Register),
		changed: make(chan struct{}),
		since:   time.Now(),
		reason:  errors.New("not started yet"),
	}
	s.client = newClient(s, cfg.Limits, s.metrics)
	return s
}

// Client returns a client for the child that currently runs. Within their deadline, its calls wait for a running
// child.
func (s *Supervisor) Client() *Client { return s.client }

// Up reports whether the child answers, since when, and, if it does not, why.
func (s *Supervisor) Up() (up bool, since time.Time, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up, s.since, s.reason
}

// PID returns the child's process id; 0 while no child runs.
func (s *Supervisor) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Run starts the child, and restarts it with growing pauses whenever it ends. When ctx ends, Run ends the child and
// returns when the child is gone.
func (s *Supervisor) Run(ctx context.Context) error {
	for n := 1; ; n++ {
		begun := time.Now()
		err := s.runChild(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ended on purpose, so its result does not matter
		}
		if time.Since(begun) >= steady {
			n = 1
		}
		pause := s.cfg.Pause(n)
		s.cfg.Log.ErrorContext(ctx, "the HSM process ended", "reason", err, "restart_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		s.metrics.restarts.Inc()
	}
}

// runChild runs one child from start to end and returns why it ended. The kernel kills the child when the thread that
// started it ends (PR_SET_PDEATHSIG, prctl(2)). So the goroutine keeps its thread until the child is gone.
func (s *Supervisor) runChild(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		ended <- s.superviseChild(ctx)
	}()
	return <-ended
}

func (s *Supervisor) superviseChild(ctx context.Context) error {
	ours, theirs, err := socketPair()
	if err != nil {
		return s.notStarted(fmt.Errorf("make the connection to the HSM process: %w", err))
	}
	cmd := exec.Command(s.cfg.Argv[0], s.cfg.Argv[1:]...)
	cmd.Env = s.cfg.Env
	cmd.Stderr = s.cfg.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return s.notStarted(errors.Join(fmt.Errorf("start the HSM process: %w", err), ours.Close()))
	}
	p := newProcess(ours)
	s.set(func() { s.current, s.pid = p, cmd.Process.Pid })

	watch, stop := context.WithCancel(ctx)
	watched, gone := make(chan error, 1), make(chan struct{})
	go func() {
		err := s.watch(watch, p)
		if ctx.Err() != nil {
			// The child ends by itself when its connection ends. SIGKILL during a login has destroyed SoftHSM tokens.
			_ = p.control.Close()
			select {
			case <-gone:
			case <-time.After(stopLimit):
			}
		}
		_ = cmd.Process.Kill()
		watched <- err
	}()
	waitErr := cmd.Wait()
	close(gone)
	stop()
	reason := p.finish(<-watched, waitErr)
	_ = p.control.Close()
	s.client.Close() // the idle connections led to this child
	s.set(func() {
		s.current, s.pid, s.up, s.since, s.reason = nil, 0, false, time.Now(), reason
		s.metrics.setUp(false)
	})
	return reason
}

func (s *Supervisor) notStarted(reason error) error {
	s.set(func() { s.reason = reason })
	return reason
}

// watch pings the child until the child or ctx ends. It returns an error when the child does not answer. This detects
// a child that is stopped or hangs.
func (s *Supervisor) watch(ctx context.Context, p *process) error {
	pinger := newClient(p, s.cfg.Limits, newMetrics(nil)) // pings do not count as calls
	defer pinger.Close()
	limit := startLimit + s.client.limits.Call + s.client.limits.Generate
	for {
		err := s.ping(ctx, pinger, limit)
		if ctx.Err() != nil {
			return nil // ended on purpose
		}
		if err != nil {
			return err
		}
		limit = 2 * s.client.limits.Call
		select {
		case <-time.After(s.cfg.Ping):
		case <-p.ended:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Supervisor) ping(ctx context.Context, pinger *Client, limit time.Duration) error {
	d, err := do[description](ctx, pinger, "Describe", empty{}, limit, key.Retry)
	if err != nil {
		return fmt.Errorf("the HSM process does not answer: %w", err)
	}
	s.set(func() {
		if !s.up {
			s.up, s.since, s.reason = true, time.Now(), nil
		}
		s.metrics.setUp(true)
		s.metrics.described(d.Degraded != "", d.PINRefused)
		s.metrics.pinIs(d.PIN)
	})
	return nil
}

// dial waits for a child that accepts a connection.
func (s *Supervisor) dial(ctx context.Context) (net.Conn, error) {
	for {
		s.mu.Lock()
		current, changed, reason := s.current, s.changed, s.reason
		s.mu.Unlock()
		if current != nil {
			conn, err := current.dial(ctx)
			if err == nil {
				return lent{conn, current}, nil
			}
			reason = err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, newError(
				Connection, key.Retry, "no HSM process runs (%w): %w; keyd starts it again", ctx.Err(), reason,
			)
		}
	}
}

func (s *Supervisor) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// childEnv returns env without the variables that only the network side needs: proxies, identities and the service
// manager's descriptors.
func childEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(strings.ToUpper(kv), "=")
		if name == "NO_PROXY" || strings.HasSuffix(name, "_PROXY") || name == "NOTIFY_SOCKET" {
			continue
		}
		if hasPrefix(name, "AZURE_", "IDENTITY_", "MSI_", "ARM_", "IMDS_", "SSL_CERT_", "WATCHDOG_", "LISTEN_") {
			continue
		}
		out = append(out, kv)
	}
	return out
}

func hasPrefix(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
