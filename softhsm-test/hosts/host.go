package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

// host is one of the three, with a daemon and its HSM side.
type host struct {
	name string
	dir  string
	w    *world

	cmd   *exec.Cmd     // nil: no daemon runs
	ended chan struct{} // closed when the daemon has ended
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// start starts the daemon by the world's clock.
func (h *host) start() error { return h.startBy(*h.w.clock.Load()) }

// startBy returns once the daemon answers. As systemd does, it starts the daemon again when that could not begin.
func (h *host) startBy(clock fasttime.Clock) error {
	return h.w.eventually("the daemon of host "+h.name+" answers", func() bool {
		if !h.runs() {
			if err := h.launch(clock); err != nil {
				return false
			}
		}
		_, err := h.look()
		return err == nil
	})
}

func (h *host) launch(clock fasttime.Clock) error {
	log, err := os.OpenFile(h.path("keyd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	h.cmd = exec.Command(
		"ip",
		"netns",
		"exec",
		h.w.net.space(h.name),
		h.w.keyd,
		"run",
		"--config",
		h.path("keyd.yaml"),
	)
	h.cmd.Env = append(h.env(), clock.Environ(), "KEYD_KILL_FILE="+h.w.path("kill"))
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := errors.Join(h.cmd.Start(), log.Close()); err != nil {
		return err
	}
	h.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait() // stop looks at how it ended
		close(ended)
	}(h.cmd, h.ended)
	return nil
}

// env leads a process on the host to Azure, and to the store without a proxy.
func (h *host) env() []string {
	env := append(append(os.Environ(), h.w.token.Environ()...), h.w.azure.Environ(h.w.path("ca.pem"))...)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		env = append(env, name+"=http://"+h.w.proxy.Listen)
	}
	return env
}

func (h *host) runs() bool {
	if h.cmd == nil {
		return false
	}
	select {
	case <-h.ended:
		return false
	default:
		return true
	}
}

// stop ends the daemon as systemd does.
func (h *host) stop() error {
	h.signal(syscall.SIGTERM)
	select {
	case <-h.ended:
	case <-time.After(patience):
		return fmt.Errorf("host %s has not ended %s after SIGTERM", h.name, patience)
	}
	if state := h.cmd.ProcessState; !state.Success() {
		return fmt.Errorf("after SIGTERM the daemon of host %s ended with %s", h.name, state)
	}
	h.cmd = nil
	return nil
}

// kill ends the daemon as a power failure does.
func (h *host) kill() {
	h.signal(syscall.SIGKILL)
	<-h.ended
	h.cmd = nil
}

// pause has all of the host stand still, and resume has it go on.
func (h *host) pause()  { h.signalAll(syscall.SIGSTOP) }
func (h *host) resume() { h.signalAll(syscall.SIGCONT) }

// standsStill reports whether the daemon stopped itself at a kill point.
func (h *host) standsStill() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
	after := strings.LastIndexByte(string(stat), ')') // the program's name may have anything in it
	return err == nil && after >= 0 && strings.HasPrefix(string(stat[after+1:]), " T")
}

func (h *host) signal(s syscall.Signal) { _ = h.cmd.Process.Signal(s) }

// signalAll signals the daemon and its HSM side.
func (h *host) signalAll(s syscall.Signal) {
	h.signal(s)
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", h.cmd.Process.Pid))
	for _, file := range children {
		text, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				_ = syscall.Kill(pid, s)
			}
		}
	}
}

func (h *host) client() *control.Client { return control.Dial(h.path("keyd.sock")) }

// look is what `keyd status --json` shows on this host.
func (h *host) look() (status.Snapshot, error) {
	if !h.runs() {
		return status.Snapshot{}, errors.New("no daemon runs on host " + h.name)
	}
	ctx, cancel := context.WithTimeout(h.w.ctx, 5*time.Second)
	defer cancel()
	return h.client().Snapshot(ctx, status.Selection{})
}

// keydCommand runs one of keyd's commands on this host.
func (h *host) command(args ...string) (string, error) {
	cmd := exec.CommandContext(
		h.w.ctx,
		"ip",
		append([]string{"netns", "exec", h.w.net.space(h.name), h.w.keyd}, args...)...)
	cmd.Env = append(h.env(), h.w.clock.Load().Environ())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("keyd %s on host %s: %w: %s", strings.Join(args, " "), h.name, err, out)
	}
	return string(out), nil
}
