package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// How long keyd may take to stop. keyd waits for the HSM to generate a key, which
// cannot be interrupted; the demo does not wait.
const (
	patience = 3 * time.Second
	endLimit = time.Minute
)

var errEnded = errors.New("keyd ended by itself")

// keyd is the running daemon.
type keyd struct {
	program string
	world   *world
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has
	err     error         // how it ended
}

// start starts `keyd run` with its log in a file. It is in a process group of its own,
// so that Ctrl-C reaches the demo alone, and is ended with the thread that started it.
func start(w *world) (*keyd, error) {
	program, err := filepath.Abs("bin/keyd")
	if err != nil {
		return nil, err
	}
	log, err := os.Create(w.file("keyd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	k := &keyd{program: program, world: w, ended: make(chan struct{})}
	k.cmd = exec.Command(program, "run", "--config", w.file("keyd.yaml"))
	k.cmd.Env, k.cmd.Stdout, k.cmd.Stderr = w.env, log, log
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start keyd: %w (`make build` builds it)", err)
	}
	go func() {
		k.err = k.cmd.Wait()
		close(k.ended)
	}()
	return k, nil
}

// stop stops keyd. It kills keyd once hurry is closed, or if the HSM is still generating a
// key; both processes survive that.
func (k *keyd) stop(making bool, hurry <-chan struct{}) error {
	wait := endLimit
	if making {
		wait = patience
	}
	_ = k.cmd.Process.Signal(syscall.SIGTERM)
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-k.ended:
		if k.err != nil && !k.endedUnbegun() {
			return fmt.Errorf("keyd did not end cleanly: %w", k.err)
		}
		return nil
	case <-hurry:
		making = true // or keyd does something else that nobody waits for
	case <-timeout.C:
	}
	_ = k.cmd.Process.Kill() // its HSM side ends with it
	<-k.ended
	if !making {
		return fmt.Errorf("keyd did not end within %v of SIGTERM, and was killed", wait)
	}
	return nil
}

// endedUnbegun reports whether SIGTERM came before keyd was ready for it. Until then it has logged nothing.
func (k *keyd) endedUnbegun() bool {
	log, err := os.Stat(k.world.file("keyd.log"))
	how, ok := k.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return err == nil && log.Size() == 0 && ok && how.Signaled() && how.Signal() == syscall.SIGTERM
}

func (k *keyd) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.program, append(args, "--socket", k.world.file("keyd.sock"))...)
	cmd.Env = k.world.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is meant for the demo
	return cmd
}

// do runs one of keyd's commands and returns its output.
func (k *keyd) do(ctx context.Context, args ...string) ([]byte, error) {
	out, err := k.command(ctx, args...).Output()
	if err == nil {
		return out, nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && interrupted(exit) {
		// Ctrl-C came before the command was in a group of its own. So it is meant for the demo, which gets it, too.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if exit != nil && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return nil, fmt.Errorf("keyd %s: %w", strings.Join(args, " "), err)
}

func interrupted(exit *exec.ExitError) bool {
	how, ok := exit.Sys().(syscall.WaitStatus)
	return ok && how.Signaled() && how.Signal() == syscall.SIGINT
}

const exitUnreachable = 3 // of keyd's commands

// status returns keyd's status of the key; answers is false while keyd does not answer.
func (k *keyd) status(ctx context.Context) (s keyStatus, answers bool, err error) {
	out, err := k.do(ctx, "status", keyName, "--json")
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == exitUnreachable:
		return s, false, nil // not up yet, or ended, which other code notices
	case err != nil:
		return s, false, err
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, false, fmt.Errorf("read what `keyd status --json` printed: %w", err)
	}
	return s, true, nil
}
