package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminalLimit is how long a test may run a command on a terminal.
const terminalLimit = 2 * time.Minute

// onTerminal runs a command on a terminal of its own, as a person does:
//
//	terminal COLSxROWS CODE [-when REGEXP -type KEYS]… keyd …
//
// Once the terminal's content matches REGEXP, it types KEYS: ^C means Ctrl-C and \n means Enter; for SIGTERM it sends
// that signal instead. CODE is the expected exit code. Afterwards the file output has everything that the terminal
// received, with ␛ for the escape character, and the file screen has what it showed at the end, with N s for running
// times.
func onTerminal(ts *testscript.TestScript, _ bool, args []string) {
	var cols, rows uint16
	if _, err := fmt.Sscanf(args[0], "%dx%d", &cols, &rows); err != nil {
		ts.Fatalf("terminal: %q is not COLSxROWS", args[0])
	}
	code, args := args[1], args[2:]
	var typing []typed
	for args[0] == "-when" {
		typing = append(
			typing,
			typed{regexp.MustCompile(args[1]), strings.NewReplacer("^C", "\x03", `\n`, "\n").Replace(args[3])},
		)
		args = args[4:]
	}
	p, err := newPTY(cols, rows)
	ts.Check(err)
	defer p.Close()
	got, exit, err := p.run(environment(ts), args, typing)
	ts.Check(err)
	if strconv.Itoa(exit) != code {
		ts.Fatalf("exit code %d, want %s; the terminal got\n%s", exit, code, got)
	}
	got = regexp.MustCompile(` *\b[0-9]+\.[0-9] s\b`).ReplaceAllString(got, "  N s")
	s := newScreen(int(cols), int(rows))
	_, _ = s.Write([]byte(got))
	ts.Check(os.WriteFile(ts.MkAbs("screen"), []byte(s.all()+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("output"), []byte(strings.NewReplacer("\x1b", "␛", "\r", "").Replace(got)), 0o600))
}

// environment is the environment of a command in a script.
func environment(ts *testscript.TestScript) []string {
	env := []string{"TERM=xterm"}
	for _, name := range []string{"TERM", "PATH", "HOME", "TZ", "TMPDIR", "GORACE", "GOCOVERDIR", "KEYD_SOCKET",
		"NO_COLOR", "CLICOLOR_FORCE"} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// typed is keys to type, and what the person at the terminal waits for first.
type typed struct {
	when *regexp.Regexp
	keys string
}

// pty is a pseudo-terminal (pty(7)): the test holds controller, as the person would, and the program has the other
// end.
type pty struct{ controller, program *os.File }

func newPTY(cols, rows uint16) (*pty, error) {
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	fd := int(controller.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}))
	if err != nil {
		return nil, errors.Join(err, controller.Close())
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Join(err, controller.Close())
	}
	// Otherwise Ctrl-C sometimes flushes the output that answers it.
	modes, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err == nil {
		modes.Lflag |= unix.NOFLSH
		err = unix.IoctlSetTermios(int(program.Fd()), unix.TCSETS, modes)
	}
	if err != nil {
		return nil, errors.Join(err, program.Close(), controller.Close())
	}
	return &pty{controller, program}, nil
}

// Close closes the person's end; run closed the other.
func (p *pty) Close() { _ = p.controller.Close() }

// run runs keyd on the terminal, and returns everything that the terminal received and the exit code.
func (p *pty) run(env, args []string, typing []typed) (got string, exit int, err error) {
	self, err := os.Executable() // acts as the command keyd: see TestMain
	if err != nil {
		return "", 0, err
	}
	cmd := &exec.Cmd{Path: self, Args: args, Env: env, Stdin: p.program, Stdout: p.program, Stderr: p.program,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true}}
	if err := cmd.Start(); err != nil {
		return "", 0, err
	}
	_ = p.program.Close()
	limit := time.AfterFunc(terminalLimit, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	for buf := make([]byte, 4096); ; {
		n, err := p.controller.Read(buf)
		got += string(buf[:n])
		if len(typing) > 0 && typing[0].when.MatchString(got) {
			if typing[0].keys == "SIGTERM" {
				_ = cmd.Process.Signal(syscall.SIGTERM)
			} else {
				_, _ = p.controller.WriteString(typing[0].keys)
			}
			typing = typing[1:]
		}
		if err != nil { // EIO: nobody has the other end open any more
			break
		}
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &ended) {
		return got, 0, err
	}
	if len(typing) > 0 {
		return got, 0, fmt.Errorf("%q was never shown in\n%s", typing[0].when, got)
	}
	return got, cmd.ProcessState.ExitCode(), nil
}
