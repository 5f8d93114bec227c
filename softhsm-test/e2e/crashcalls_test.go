package e2e_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
)

// callStories kill at system calls, with strace, where keyd has no kill point of its own: inside the database, inside
// a file's replacement, between two packets. strace counts calls for each thread, so the actual call of the daemon
// varies between runs. A call at which nothing was killed does not count, and a story without a kill has failed.
func callStories() []story {
	stories := []story{
		{"calls, the database at the start", onlyWeu, killedAtStart},
		{"calls, the note of the PIN", onlyWeu, hsmSideAtCalls("pin-tried.json", "renameat", "unlinkat")},
		{"calls, the record of trusted KEKs", onlyWeu, trustAtCalls("renameat", "kek-trust.json")},
		{"calls, the flush of the HSM side's directory", onlyWeu, trustAtCalls("fsync", "")},
	}
	for _, of := range []struct {
		what, call string
		paths      func(*crash) []string
	}{
		{"the database", "pwrite64", (*crash).database},
		{"the database", "fdatasync", (*crash).database},
		{"the vaults' connections", "write", (*crash).vaultSockets},
		{"the vaults' connections", "read", (*crash).vaultSockets},
	} {
		for _, part := range [][]int{{1, 2, 3, 4}, {5, 6, 8, 10}} {
			name := fmt.Sprintf("calls, %s, %s %d to %d", of.what, of.call, part[0], part[len(part)-1])
			stories = append(stories, story{name, nil, rotationAtCalls(of.call, of.paths, part)})
		}
	}
	return stories
}

func (c *crash) database() []string { return []string{c.path("state/keyd.db")} }

// vaultSockets are the daemon's connections to the proxy, as strace names them.
func (c *crash) vaultSockets() (found []string) {
	c.t.Helper()
	err := poll(patience, func() bool { found = c.sockets(); return len(found) > 0 }, c.daemon.ended)
	if err != nil {
		c.t.Fatalf("the daemon has no connection to a vault: %v", err)
	}
	return found
}

func (c *crash) sockets() (found []string) {
	c.t.Helper()
	proxy, err := url.Parse(c.emu.ProxyURL())
	if err != nil {
		c.t.Fatal(err)
	}
	port, err := strconv.Atoi(proxy.Port())
	if err != nil {
		c.t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		c.t.Fatal(err)
	}
	ours := map[string]bool{}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.daemon.cmd.Process.Pid))
	for _, l := range links {
		if target, err := os.Readlink(l); err == nil {
			ours[target] = true
		}
	}
	for _, line := range strings.Split(string(table), "\n") {
		f := strings.Fields(line) // proc(5): … rem_address is the third, inode the tenth
		if len(f) < 10 || !strings.HasSuffix(f[2], fmt.Sprintf(":%04X", port)) {
			continue
		}
		if name := "socket:[" + f[9] + "]"; ours[name] {
			found = append(found, name)
		}
	}
	return found
}

// tracer is one strace that kills.
type tracer struct {
	cmd   *exec.Cmd
	out   *syncBuffer
	ended chan struct{}
}

// injection makes strace kill at the n-th such call of a thread on a path.
func injection(call string, n int, paths []string) []string {
	args := []string{"-f", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n)}
	for _, p := range paths {
		args = append(args, "-P", p)
	}
	return args
}

// trace attaches a tracer to a process and the children that it starts afterwards.
func (c *crash) trace(pid int, call string, n int, paths []string) *tracer {
	c.t.Helper()
	tr := &tracer{out: new(syncBuffer), ended: make(chan struct{})}
	tr.cmd = exec.Command("strace", append(injection(call, n, paths), "-p", strconv.Itoa(pid))...)
	tr.cmd.Stderr = tr.out
	if err := tr.cmd.Start(); err != nil {
		c.t.Fatalf("strace: %v (install it with: apt-get install strace)", err)
	}
	go func() {
		_ = tr.cmd.Wait()
		close(tr.ended)
	}()
	c.t.Cleanup(tr.detach)
	err := poll(patience, func() bool { return strings.Contains(tr.out.String(), "attached") }, tr.ended)
	if err != nil {
		c.t.Fatalf("strace does not attach: %s", tr.out)
	}
	return tr
}

func (tr *tracer) detach() {
	_ = tr.cmd.Process.Signal(syscall.SIGINT)
	<-tr.ended
}

func (tr *tracer) killed() bool { return strings.Contains(tr.out.String(), "killed by SIGKILL") }

// struckBy reports whether the tracer killed the daemon within callPatience. It then detaches from the daemon.
func (c *crash) struckBy(tr *tracer) bool {
	if poll(callPatience, tr.killed, tr.ended) == nil {
		return true // strace ends with the daemon
	}
	tr.detach()
	return poll(time.Second, tr.killed, c.daemon.ended) == nil || c.hasEnded()
}

func (c *crash) hasEnded() bool {
	c.t.Helper()
	select {
	case <-c.daemon.ended:
		if c.daemon.err == nil || !strings.Contains(c.daemon.err.Error(), "killed") {
			c.t.Fatalf("the daemon was not killed, and ended: %v", c.daemon.err)
		}
		return true
	default:
		return false
	}
}

// callPatience is how long the test waits for a kill.
const callPatience = 5 * time.Second

// rotationAtCalls requests one rotation after the other, and kills the daemon at a system call of each.
func rotationAtCalls(call string, paths func(*crash) []string, counts []int) func(*crash) {
	return func(c *crash) {
		c.start()
		c.waitRotated(1, "nothing")
		n := 1
		for _, count := range counts {
			c.seal()
			c.copyToken()
			tr := c.trace(c.daemon.cmd.Process.Pid, call, count, paths(c))
			taken := c.cli("rotate", "--now", keyName, "--no-wait", "--reason", "drill").code == 0
			if c.struckBy(tr) {
				c.awaitEnd()
				c.daemon = nil
				c.wantToken()
				c.calls++
				c.start()
			}
			var done bool
			if n, done = c.recovered(n, taken); !done {
				c.finishLater()
				break // the record has been in the future
			}
		}
		c.wantKilled(call)
		c.seal()
		c.judge(n, n)
	}
}

// wantKilled requires that the story had at least one kill at a system call.
func (c *crash) wantKilled(call string) {
	c.t.Helper()
	if c.calls == 0 {
		c.t.Errorf("nothing was killed at %s: the story proves nothing", call)
	}
}

// recovered waits until nothing is due any more, or until everything due waits for an import. It returns how many
// generations are due in the end: every accepted request must be done; one that was not accepted may be.
func (c *crash) recovered(n int, taken bool) (due int, done bool) {
	c.t.Helper()
	c.wait("everything that can be done is done", func(_ status.Snapshot, k status.Key) bool {
		due = len(k.Generations)
		if strings.Contains(k.Waiting, "keyd does not know yet whether vault") {
			return true
		}
		done = len(k.Requests) == 0 && due > 0 && finished(k, due) && k.State == status.StateOK
		return done
	})
	if due > n+1 || due < n || taken && due != n+1 {
		c.t.Errorf("there are %d generations; there were %d when one was requested (accepted: %v)",
			due, n, taken)
	}
	return due, done
}

// killedAtStart kills new daemons on an empty directory while they make their database, record their start, and begin
// to work.
func killedAtStart(c *crash) {
	for _, at := range []struct {
		call  string
		count int
	}{{"fdatasync", 1}, {"pwrite64", 1}, {"pwrite64", 2}, {"fdatasync", 2}, {"pwrite64", 4}, {"fdatasync", 3},
		{"pwrite64", 7}} {
		c.copyToken()
		args := append(injection(at.call, at.count, c.database()), "-o", c.path("calls"), built.keyd, "run", "--config",
			c.path("keyd.yaml"))
		c.startBy(exec.Command("strace", args...))
		_ = poll(4*callPatience, func() bool { return false }, c.daemon.ended)
		calls, err := os.ReadFile(c.path("calls"))
		if err != nil {
			c.t.Fatal(err)
		}
		if strings.Contains(string(calls), "killed by SIGKILL") {
			c.calls++
		} else {
			c.stopTraced()
		}
		c.awaitEnd()
		c.daemon = nil
		c.wantToken()
	}
	c.wantKilled("the database's first writes")
	c.start()
	if _, done := c.recovered(0, true); !done {
		c.finishLater()
	}
	c.seal()
	c.judge(1, 1)
	c.wantOneKEK()
}

// stopTraced ends a daemon that runs under strace.
func (c *crash) stopTraced() {
	c.t.Helper()
	want := built.keyd + " run --config " + c.path("keyd.yaml")
	for _, p := range processesNaming(c.path("keyd.yaml")) {
		pid, line, _ := strings.Cut(p, " ")
		if strings.TrimSpace(line) != want {
			continue
		}
		n, err := strconv.Atoi(pid)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = syscall.Kill(n, syscall.SIGTERM)
	}
}

// hsmSideAtCalls kills the HSM side while it writes its note about trying the PIN, and while it removes the note.
func hsmSideAtCalls(file string, calls ...string) func(*crash) {
	return func(c *crash) {
		c.start()
		c.waitRotated(1, "nothing")
		n := 1
		for _, call := range calls {
			c.seal()
			c.copyToken()
			tr := c.trace(c.daemon.cmd.Process.Pid, call, 1, []string{c.path("state/hsm/" + file)})
			c.killHSMSide()
			c.awaitCall(tr, call)
			c.must("rotate", "--now", keyName, "--no-wait", "--reason", "drill")
			n++
			c.waitRotated(n, call)
		}
		c.judge(n, n)
	}
}

// trustAtCalls kills the HSM side while it records the first use of a KEK.
func trustAtCalls(call, file string) func(*crash) {
	return func(c *crash) {
		c.emu.Fail(emulator.Rule{Operation: "import", Status: 503}) // until the tracer is attached
		c.emu.Fail(emulator.Rule{Operation: "create", Status: 429})
		c.start()
		c.wait("the HSM side is up", func(s status.Snapshot, _ status.Key) bool { return s.HSM.Up })
		c.copyToken()
		tr := c.trace(childOf(c.daemon.cmd.Process.Pid), call, 1, []string{c.path("state/hsm/" + file)})
		c.emu.ClearFailures()
		c.awaitCall(tr, call)
		c.waitRotated(1, call)
		c.seal()
		c.judge(1, 1)
	}
}

// awaitCall waits until the HSM side died at a call, and lets the next one live.
func (c *crash) awaitCall(tr *tracer, call string) {
	c.t.Helper()
	err := poll(patience, func() bool {
		return strings.Contains(tr.out.String(), call+"(") && strings.Contains(tr.out.String(), "killed by SIGKILL +++")
	}, tr.ended)
	tr.detach()
	if err != nil {
		c.t.Fatalf("the HSM side was not killed at %s: %v: %s", call, err, tr.out)
	}
	c.calls++
	c.wantToken()
}
