//go:build alerts

package alertstest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"
	"time"
)

var binDir = flag.String("bin", "", "where keyd and keyvault-emulator are")

// inDirectory is set in the process that runs the test. It names the directory of all
// its files, which the parent process removes, however the test ends.
const inDirectory = "KEYD_ALERTSTEST_DIRECTORY"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(inDirectory) == "" {
		os.Exit(again())
	}
	os.Exit(m.Run())
}

// again runs this program in its own directory. Its children die with it, by the death
// signal.
func again() int {
	dir, err := os.MkdirTemp("", "keyd-alerts-") // short, because a socket's path includes it
	if err != nil {
		fmt.Fprintln(os.Stderr, "alertstest:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	runtime.LockOSThread() // the death signal is the thread's
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inDirectory+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "alertstest:", err)
		return 1
	}
	go func() {
		<-stop
		_ = cmd.Process.Kill()
	}()
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}

// shown are the scenes of the story in order: each begins where the one before ended.
func shown() []scene {
	return []scene{
		{"promtool and amtool take the configuration that docs/metrics.md shows", documentedConfiguration},
		{"Prometheus scrapes the daemon and has every shipped rule", scraped},
		{"while all is well no alert fires", quiet},
		{"with forty keys and the HSM stopped, one page and one problem", hsmStopped},
		{"a vault whose firewall refuses keyd is one page", vaultForbids},
		{"two vaults and no token are one page and one problem", noToken},
		{"a vault that forbids to unwrap is one page", unwrapForbidden},
		{"consumers that Resource Manager does not show are one page, whatever their keys", consumersUnseen},
		{"versions that certainly fail are one page for on-call, with key, vault and a runbook that keyd serves",
			unwrapFails},
		{"when the fault ends, so does the alert", unwrapWorksAgain},
		{"a key that is deleted is one page for on-call", keyDeleted},
		{"once it is recovered, its hold reaches the receiver for today, until somebody resumes it", keyRecovered},
		{"a rotation that cannot finish reaches the receiver for today, and names the vault", rotationFails},
		{"when the fault ends, the rotation finishes, and so does the alert", rotationFinishes},
		{"a consumer that nobody moved to the new version reaches the receiver for today, and is named", consumerLags},
		{"once keyd no longer looks at it, the alert ends", consumersGone},
		{"every query of the dashboard was answered with data, in one trouble or the other", dashboardQueries},
		{"a stopped daemon raises an alert", daemonGone},
		{"and that it is back", daemonBack},
	}
}

type scene struct {
	shows string
	play  func(*testing.T, *world)
}

func TestAlerts(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	passed := 0
	scenes := shown()
	for _, s := range scenes {
		start := time.Now()
		if !t.Run(s.shows, func(t *testing.T) { s.play(t, w) }) {
			fmt.Printf("FAIL  %s\n", s.shows)
			w.tell(t)
			break // later scenes would build on it
		}
		passed++
		fmt.Printf("ok    %s (%.1f s)\n", s.shows, time.Since(start).Seconds())
	}
	failed := 0
	if t.Failed() {
		failed = 1
	}
	fmt.Printf("alerts: %d passed, %d failed, %d not reached, in %.0f s\n",
		passed, failed, len(scenes)-passed-failed, time.Since(began).Seconds())
}
