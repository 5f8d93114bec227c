package severalhosts

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// patience is the limit for what a busy machine does.
const patience = 90 * time.Second

// service is what runs in place of keyd.service and keyd-hsm.service: one keyd, which starts the HSM side itself.
type service struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended
	log   log
}

// log is what a process writes meanwhile.
type log struct {
	sync.Mutex
	bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

func (l *log) String() string {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.String()
}

// systemctl stands in for systemd, which does not run here. It refuses what no test knows.
func (h *host) systemctl(arguments string) error {
	arguments, _, _ = strings.Cut(arguments, "#")
	switch strings.TrimSpace(arguments) {
	case "start keyd", "start keyd-hsm keyd", "enable --now keyd-hsm keyd":
		return h.start()
	case "stop keyd":
		return h.stop()
	}
	return fmt.Errorf("no test knows systemctl %s", arguments)
}

// start returns when keyd says that it is ready, as systemctl does.
func (h *host) start() error {
	if h.service != nil {
		return errors.New("keyd runs already")
	}
	s := &service{
		cmd:   exec.Command(keyd, "run", "--config", h.path("etc/keyd/keyd.yaml")),
		ended: make(chan struct{}),
	}
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = h.env, &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	h.service = s
	return h.until("keyd is ready", func(now status.Snapshot) bool { return now.Ready })
}

// until waits until keyd shows something.
func (h *host) until(what string, shows func(status.Snapshot) bool) error {
	c := control.Dial(h.socket())
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		if now, err := c.Snapshot(h.t.Context(), status.Selection{}); err == nil && shows(now) {
			return nil
		}
		select {
		case <-h.service.ended:
			return fmt.Errorf("keyd ended: %w\n%s", h.service.err, &h.service.log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("waited %s until %s\n%s", patience, what, &h.service.log)
}

func (h *host) stop() error {
	if h.service == nil {
		return errors.New("keyd does not run")
	}
	s := h.service
	h.service = nil
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
		if s.err != nil {
			return fmt.Errorf("keyd ended with %w\n%s", s.err, &s.log)
		}
		return nil
	case <-time.After(patience):
		return fmt.Errorf("keyd does not end\n%s", &s.log)
	}
}

// end ends what still runs when the test is over, and waits until nothing uses the host's folder any more.
func (h *host) end() {
	if h.service != nil {
		if h.t.Failed() {
			h.t.Logf("keyd's log:\n%s", &h.service.log)
		}
		_ = h.service.cmd.Process.Kill() // its HSM side ends with it
		<-h.service.ended
	}
	for limit := time.Now().Add(patience); h.inUse(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			h.t.Errorf("a process that names %s was left running", h.root)
			return
		}
	}
}

// inUse reports whether a command line names the host's folder.
func (h *host) inUse() bool {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.ContainsFunc(lines, func(file string) bool {
		line, err := os.ReadFile(file)
		return err == nil && bytes.Contains(line, []byte(h.root))
	})
}

// socket is where keyd listens.
func (h *host) socket() string { return filepath.Join(h.root, "run/keyd/keyd.sock") }
