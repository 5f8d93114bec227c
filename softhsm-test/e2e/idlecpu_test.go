package e2e_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// idleKeys asks for the measurement; each key is placed in two vaults.
var idleKeys = flag.Int("idle-keys", 0, "measure the CPU time of an idle daemon with this many keys in two vaults each")

// idleFor is how long the daemon is measured. Its proofs go on meanwhile, at the pace of a configuration that names
// none: each newest version every five minutes.
var idleFor = flag.Duration("idle-for", 3*time.Minute, "how long to measure an idle daemon")

// TestTheCPUTimeOfAnIdleDaemon prints what make idle promises. It judges nothing: it is the machine's as well.
func TestTheCPUTimeOfAnIdleDaemon(t *testing.T) {
	if *idleKeys == 0 {
		return // make idle asks for it
	}
	w := newWorld(t, func(s *settings) {
		s.vaults, s.look = []string{"weu", "mhsm"}, 15*time.Minute
	})
	w.configureKeys(*idleKeys)
	w.start("NOTIFY_SOCKET=" + w.asSystemd())
	allWell := func() bool {
		s, err := control.Dial(w.path("keyd.sock")).Snapshot(t.Context(), status.Selection{Few: true, Brief: true})
		return err == nil && s.Ready && s.Summary.States[status.StateOK] == *idleKeys && len(s.Problems) == 0
	}
	if err := poll(time.Hour, allWell, w.daemon.ended); err != nil {
		t.Fatalf("the keys are not well: %v\n%s", err, w.must("status"))
	}
	time.Sleep(time.Minute) // the first proofs after a start are spread over it
	network, hsm := w.daemon.cmd.Process.Pid, childOf(w.daemon.cmd.Process.Pid)
	before := [2]time.Duration{w.cpu(network), w.cpu(hsm)}
	begun, proofs := time.Now(), w.requests("unwrap")
	time.Sleep(*idleFor)
	hours := time.Since(begun).Hours()
	n, h := (w.cpu(network)-before[0]).Seconds()/hours, (w.cpu(hsm)-before[1]).Seconds()/hours
	fmt.Printf("idle with %d placements: %.1f s of CPU an hour (network side %.1f, HSM side %.1f), with %.0f "+
		"proofs an hour\n", 2**idleKeys, n+h, n, h, float64(w.requests("unwrap")-proofs)/hours)
}

// configureKeys writes a configuration with so many keys in place of the one.
func (w *world) configureKeys(n int) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(text), "keys:\n")
	_, after, _ := strings.Cut(rest, "control:")
	var keys strings.Builder
	for i := range n {
		fmt.Fprintf(&keys, "  idle-%03d: {spec: %s, vaults: [%s]}\n", i, w.set.spec, strings.Join(w.set.vaults, ", "))
	}
	w.write("keyd.yaml", before+"keys:\n"+keys.String()+"control:"+after)
}

// asSystemd listens where a daemon notifies systemd, and reads what it says.
func (w *world) asSystemd() (path string) {
	w.t.Helper()
	path = w.path("notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { socket.Close() })
	go func() {
		for message := make([]byte, 4096); ; {
			if _, err := socket.Read(message); err != nil {
				return
			}
		}
	}()
	return path
}

// cpu is for how long a process has had a core.
func (w *world) cpu(pid int) time.Duration {
	w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the program's name: from field 3 on, by proc_pid_stat(5)
	fields := strings.Fields(rest)
	var user, system int64
	if _, err := fmt.Sscan(fields[14-3]+" "+fields[15-3], &user, &system); err != nil {
		w.t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ
	return time.Duration(user+system) * tick
}
