package postgrestest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running program.
type process struct {
	pid   int
	ended chan struct{}
	err   error // set when ended is closed
}

// Run starts the server and waits until it answers.
func (s *Server) Run() (err error) {
	if err := os.Remove(s.pidFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.process, err = s.start(s.log(), "postgres", "-D", s.Data); err != nil {
		return err
	}
	return s.ready()
}

// start starts a program that runs until somebody ends it, or this program ends. It writes to a log.
func (s *Server) start(log, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := s.command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	p, started := &process{ended: make(chan struct{})}, make(chan error)
	go func() { // on a thread that lives as long as the program: see Pdeathsig
		runtime.LockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w; %s", program, err, installHint)
	}
	return p, nil
}

func (s *Server) log() string     { return filepath.Join(s.dir, "log") }
func (s *Server) pidFile() string { return filepath.Join(s.Data, "postmaster.pid") }

// ready waits until the server says in its own file that it takes connections.
func (s *Server) ready() error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-s.process.ended:
			return fmt.Errorf("PostgreSQL ended: %w\n%s", s.process.err, s.Log())
		case <-time.After(5 * time.Millisecond):
		}
		text, err := os.ReadFile(s.pidFile())
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if lines := strings.Split(string(text), "\n"); len(lines) > 7 {
			if status := strings.TrimSpace(lines[7]); status == "ready" || status == "standby" {
				return nil
			}
		}
	}
	return fmt.Errorf("PostgreSQL does not answer after %s\n%s", patience, s.Log())
}

// Log is what the server has written.
func (s *Server) Log() string {
	text, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop ends the server in order: it ends its connections first.
func (s *Server) Stop() error { return s.end(syscall.SIGINT) }

// Crash ends the server as a power failure does. Run then recovers it.
func (s *Server) Crash() error { return s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	if err := s.process.end(signal); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Log())
	}
	s.process = nil
	return nil
}

func (p *process) end(signal syscall.Signal) error {
	if err := syscall.Kill(p.pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("process %d does not end after %s", p.pid, patience)
	}
}

// Pause stops all processes of the server, and Continue has them go on: it then is as a machine that hung.
func (s *Server) Pause() error    { return s.signal(syscall.SIGSTOP) }
func (s *Server) Continue() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal syscall.Signal) error {
	if s.process == nil {
		return errors.New("PostgreSQL does not run")
	}
	pids := []int{s.process.pid}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.process.pid))
	if err != nil {
		return err
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Remove ends the server and removes its folder.
func (s *Server) Remove() error {
	if s.process != nil {
		_ = s.Continue() // what is paused cannot end; if it is gone, nothing is left to end
	}
	return errors.Join(s.Crash(), os.RemoveAll(s.dir))
}

// command is one of PostgreSQL's programs, as the user that may run it.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	argv := append([]string{}, s.o.Within...)
	if s.owner != nil {
		argv = append(argv, "setpriv", "--reuid", s.owner.Uid, "--regid", s.owner.Gid, "--init-groups",
			"--pdeathsig", "QUIT", "--")
	}
	if !filepath.IsAbs(program) {
		program = filepath.Join(s.bin, program)
	}
	argv = append(append(argv, program), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PGCONNECT_TIMEOUT=10")
	return cmd
}

// run runs a program to its end, and returns what it wrote.
func (s *Server) run(program string, args ...string) (string, error) {
	cmd := s.command(program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
