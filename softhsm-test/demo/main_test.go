package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tooLong is when a test gives up on a demo; the machine may be busy.
const tooLong = 5 * time.Minute

// checkout is a directory with bin/keyd in it, on a path with a space, like a clone after `make build`.
var checkout string

// TestMain acts as the demo when a test starts it as the demo.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_IS_THE_DEMO") != "" {
		main()
	}
	os.Exit(prepared(m))
}

func prepared(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyd demo ")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	checkout = dir
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bin", "keyd"),
		"github.com/keyd-project/keyd/cmd/keyd")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build keyd: %v: %s\n", err, out)
		return 1
	}
	return m.Run()
}

// played is a running demo with its own directory for temporary files.
type played struct {
	t   *testing.T
	cmd *exec.Cmd
	tmp string
	end *os.File // our end of the pipe or the terminal

	mu     sync.Mutex
	output bytes.Buffer // everything it wrote
	closed chan struct{}
}

// play starts a demo in a session of its own, with its output in a pipe, or on a terminal of this many columns.
func play(t *testing.T, columns int, env ...string) *played {
	t.Helper()
	p := &played{t: t, closed: make(chan struct{})}
	var err error
	if p.tmp, err = os.MkdirTemp(checkout, "tmp "); err != nil { // not t.TempDir: the path of a socket must be short
		t.Fatal(err)
	}
	var its *os.File
	p.end, its = p.pipe(columns)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = &exec.Cmd{Path: self, Dir: checkout, Stdin: its, Stdout: its, Stderr: its,
		Env: slices.Concat(os.Environ(),
			[]string{"TEST_IS_THE_DEMO=1", "TERM=xterm", "NO_COLOR=", "DEMO_SECONDS=", "TMPDIR=" + p.tmp}, env),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: columns > 0}}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	its.Close()
	go p.read()
	watchdog := time.AfterFunc(tooLong, func() { _ = p.cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = p.cmd.Process.Kill() // unless it has ended
		p.end.Close()
	})
	return p
}

// pipe makes a pipe, or a pseudo-terminal (pty(7)) if columns are given.
func (p *played) pipe(columns int) (ours, its *os.File) {
	p.t.Helper()
	check := func(err error) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	if columns == 0 {
		ours, its, err := os.Pipe()
		check(err)
		return ours, its
	}
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	check(err)
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	check(err)
	check(unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0))
	check(unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: 24}))
	its, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	check(err)
	return ours, its
}

func (p *played) read() {
	defer close(p.closed)
	for buf := make([]byte, 4096); ; {
		n, err := p.end.Read(buf)
		p.mu.Lock()
		p.output.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// got returns everything that the demo has written.
func (p *played) got() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.output.String(), "\r\n", "\n")
}

var writtenOver = regexp.MustCompile("[^\n]*(\x1b\\[[0-9]+A)?\r\x1b\\[J")

// text returns what a reader sees of it.
func (p *played) text() string {
	return writtenOver.ReplaceAllString(colours.ReplaceAllString(p.got(), ""), "")
}

func (p *played) types(keys string) {
	p.t.Helper()
	if _, err := p.end.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// goesAway closes the reader's end.
func (p *played) goesAway() { p.end.Close() }

// waitFor waits until the demo has written text.
func (p *played) waitFor(text string) {
	p.t.Helper()
	if written := func() bool { return strings.Contains(p.text(), text) }; !p.waitUntil(written) {
		p.t.Fatalf("the demo ended without %q:\n%s", text, p.text())
	}
}

// waitUntil waits for a condition, or the end of the demo.
func (p *played) waitUntil(cond func() bool) bool {
	for !cond() {
		select {
		case <-p.closed:
			return cond()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return true
}

// ends waits for the end of the demo. The test fails unless the demo has that exit code and left nothing but the
// named files.
func (p *played) ends(code int, left ...string) string {
	p.t.Helper()
	_ = p.cmd.Wait()
	<-p.closed
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("%v, want exit code %d:\n%s", p.cmd.ProcessState, code, p.text())
	}
	p.leaves(left...)
	return p.text()
}

func (p *played) leaves(left ...string) {
	p.t.Helper()
	entries, err := os.ReadDir(p.tmp)
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Join(p.tmp, e.Name()))
	}
	if fmt.Sprint(names) != fmt.Sprint(left) {
		p.t.Errorf("files are left: %q", names)
	}
	if pids := p.processes(); len(pids) > 0 {
		p.t.Errorf("processes are left: %v", pids)
	}
}

// processes returns the command lines of every keyd that belongs to this demo, by pid.
func (p *played) processes() map[int]string {
	p.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.t.Fatal(err)
	}
	found := map[int]string{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(p.tmp)) {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}
