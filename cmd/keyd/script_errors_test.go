package main

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// me is the daemon's name for the user who runs the tests.
func me() string {
	name := "uid " + strconv.Itoa(os.Getuid())
	if u, err := user.Current(); err == nil {
		name += " (" + u.Username + ")"
	}
	return name
}

// wantFailure runs a command that must fail, and compares its exit code and its whole error message: fails CODE TEXT
// keyd …. TEXT is the message after "keyd: ", or a file of the script (*.txt). In both, $WORK, $KEYD_SOCKET and $ME
// are replaced.
func wantFailure(ts *testscript.TestScript, _ bool, args []string) {
	code, want := args[0], "keyd: "+strings.ReplaceAll(args[1], `\n`, "\n")+"\n"
	if strings.HasSuffix(args[1], ".txt") {
		want = ts.ReadFile(args[1])
	}
	for _, name := range []string{"WORK", "KEYD_SOCKET", "ME"} {
		want = strings.ReplaceAll(want, "$"+name, ts.Getenv(name))
	}
	exitCodeIs(ts, false, append([]string{code}, args[2:]...))
	if got := ts.ReadFile("stderr"); got != want {
		ts.Fatalf("it says\n%swant\n%s", got, want)
	}
}

// obeyModes makes file modes apply to the commands of this script from here on, as they do for every user but root:
// obeymodes. The programs that it starts inherit their limits from the thread (capabilities(7)), which ends with the
// script.
func obeyModes(ts *testscript.TestScript, _ bool, _ []string) {
	if os.Geteuid() == 0 {
		ts.Check(childrenObeyModes())
	}
}

// childrenObeyModes takes from the programs that root starts on this goroutine the right to ignore modes, until the
// goroutine ends.
func childrenObeyModes() error {
	runtime.LockOSThread()
	return errors.Join(unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_DAC_OVERRIDE, 0, 0, 0),
		unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_DAC_READ_SEARCH, 0, 0, 0))
}

// serveAnswer answers every request on the control socket with a file of the script, and then closes the connection,
// as a program that is not this version of keyd would: answers FILE.
func serveAnswer(ts *testscript.TestScript, _ bool, args []string) {
	answer := strings.ReplaceAll(ts.ReadFile(args[0]), "\n", "\r\n")
	now := ts.Value(runningKey{}).(*running)
	now.end(ts)
	l, err := net.Listen("unix", ts.Getenv("KEYD_SOCKET"))
	ts.Check(err)
	now.stop = l.Close
	ts.Defer(func() { now.end(ts) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
}

// serveNothing keeps a socket on which a program listens: listens FILE.
func serveNothing(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
}

// expandWork replaces $WORK in files with the script's directory, and makes them private, as keyd requires of a
// configuration: expand FILE…
func expandWork(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := strings.ReplaceAll(ts.ReadFile(name), "$WORK", ts.Getenv("WORK"))
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
		ts.Check(os.Chmod(ts.MkAbs(name), 0o600))
	}
}

// runDaemon starts a real daemon and returns once it is ready, as it reports to systemd. The end of the script stops
// it: runs keyd run …
func runDaemon(ts *testscript.TestScript, _ bool, args []string) {
	socket, err := net.ListenUnixgram(
		"unixgram",
		&net.UnixAddr{Name: filepath.Join(ts.Getenv("WORK"), "notify"), Net: "unixgram"},
	)
	ts.Check(err)
	defer socket.Close()
	self, err := os.Executable()
	ts.Check(err)
	var log strings.Builder
	cmd := &exec.Cmd{
		Path:   self,
		Args:   args,
		Dir:    ts.MkAbs("."),
		Stdout: &log,
		Stderr: &log,
		Env: append(
			environment(ts),
			"NOTIFY_SOCKET="+socket.LocalAddr().
				String(),
			"HTTPS_PROXY=http://127.0.0.1:9",
			"HTTP_PROXY=http://127.0.0.1:9",
		),
	}
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		_ = socket.Close() // the file is a socket no more
		close(ended)
	}()
	ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		ts.Logf("the daemon said\n%s", log.String())
	})
	ts.Check(socket.SetReadDeadline(time.Now().Add(terminalLimit)))
	_, err = socket.Read(make([]byte, 4096))
	ts.Check(err)
}
