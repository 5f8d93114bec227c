//go:build system

package systemtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

var (
	debFile     = flag.String("deb", "", "the package to install")
	rpmFile     = flag.String("rpm", "", "the same for others than Debian")
	emulatorDeb = flag.String("emulator-deb", "", "the emulator's package")
	emulatorRPM = flag.String("emulator-rpm", "", "the same for others than Debian")
	nextRPM     = flag.String("next-rpm", "", "a later one, with another default configuration; not in the sample")
	binDir      = flag.String("bin", "", "where keyvault-emulator and faultmodule.so are")
	sample      = flag.Bool("sample", false, "leave out the scenes that take long")
)

// inNamespace is set in the process that has its own mounts and process ids: whatever it mounted and started
// disappears with it, however it ends.
const inNamespace = "KEYD_SYSTEMTEST_NAMESPACE"

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(inNamespace) == "" {
		os.Exit(again())
	}
	os.Exit(m.Run())
}

// again runs this program in namespaces of its own.
func again() int {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "systemtest boots systemd in a container: run it as root")
		return 1
	}
	runtime.LockOSThread() // the death signal is the thread's
	cmd := exec.Command("unshare",
		append([]string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--"},
			os.Args...)...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		return 1
	}
	return 0
}

// shown are the scenes of the story in order: each begins where the one before ended.
func shown() []scene {
	return []scene{
		{"installing starts and enables nothing, and names who was in its groups", installingStartsNothing, short},
		{"as installed, the configuration is refused once, with exit code 2, and nothing restarts", inertAsInstalled,
			short},
		{"keyd-hsm opens the token with a PIN that systemd-creds encrypted", hsmStartsWithEncryptedPIN, short},
		{"keyd is active only after the first completed look", activeAfterTheFirstLook, short},
		{"systemctl status shows in words how both sides are", statusText, short},
		{"a first generation is made in the HSM, imported and proven", converges, short},
		{"logs arrive in the journal as fields, with right priorities", journalFields, short},
		{"keyd killed by SIGKILL in mid-rotation is restarted and finishes it, with one import", killedKeyd, short},
		{"the HSM side killed by SIGKILL in mid-rotation is restarted alone, and the rotation finishes", killedHSM,
			long},
		{"a stopped keyd (SIGSTOP) is killed and restarted by its watchdog", stoppedKeyd, long},
		{"a stopped HSM side (SIGSTOP) is killed and restarted by its watchdog, alone", stoppedHSM, long},
		{"a hung call into the HSM's library restarts the HSM side only", hungCall, short},
		{"a library that segfaults ends the HSM side, which is restarted", segfault, short},
		{"booted with Azure unreachable, keyd is active, degraded and not restarted, and recovers by itself",
			azureUnreachable, long},
		{"a wrong PIN is tried once ever, keyd stays up degraded, and a changed credential cures it", wrongPIN, long},
		{"systemctl reload with a good configuration takes effect, and a proof that is under way goes on", reloadGood,
			short},
		{"systemctl reload with a bad one fails, the journal has the reasons, and the old one goes on", reloadBad,
			short},
		{"a proxy's password comes as it is from a file, and no other user can read it", proxyPassword, short},
		{"the audit names the login behind sudo, by logind's session, and says when it is unknown", whoIsBehindSudo,
			short},
		{"a start records by value which settings changed since the last one", startRecordsChanges, short},
		{"a stop in mid-rotation ends within TimeoutStopSec, and the next start finishes the rotation",
			stopInMidRotation, short},
		{"both sides run with no new privileges, no capabilities and a system call filter", privileges, short},
		{"keyd's sandbox holds: it writes its state and nothing else, and reads neither home nor the PIN",
			sandboxOfKeyd, short},
		{"the HSM side's sandbox holds, and it has no network", sandboxOfHSM, short},
		{"with the drop-in for devices the HSM side opens its device, by the group that may", dropInForDevices, short},
		{"an upgrade restarts what ran, and keeps the edited configuration", upgrade, short},
		{"removing stops both and keeps state, PIN and configuration", removing, short},
		{"purging asks nothing, says what it leaves, and leaves state, users and HSM objects", purging, short},
		{"the .rpm does the same, makes the users, and runs on the state that is there", rpmInstalled, short},
		{"an upgrade of the .rpm restarts what ran, and keeps the edited configuration", rpmUpgraded, long},
		{"erasing the .rpm stops and disables both, and leaves state, PIN, configuration and HSM objects", rpmErased,
			short},
		{"the emulator's .rpm starts nothing, its service starts, and erasing it keeps its keys", rpmOfTheEmulator,
			short},
	}
}

type scene struct {
	shows string
	play  func(*testing.T, *world)
	takes length
}

// length says whether a scene, with everything it needs first, takes too long for the sample.
type length bool

const (
	short length = false
	long  length = true
)

func TestKeydUnderSystemd(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	passed := 0
	scenes := slices.DeleteFunc(shown(), func(s scene) bool { return *sample && s.takes == long })
	for _, s := range scenes {
		start := time.Now()
		if !t.Run(s.shows, func(t *testing.T) { s.play(t, w) }) {
			fmt.Printf("FAIL  %s\n", s.shows)
			t.Logf("the journal's end:\n%s", w.tail())
			break // later scenes would build on it
		}
		passed++
		fmt.Printf("ok    %s (%.1f s)\n", s.shows, time.Since(start).Seconds())
	}
	failed := 0
	if t.Failed() {
		failed = 1
	}
	fmt.Printf("system: %d passed, %d failed, %d not reached, in %.0f s\n",
		passed, failed, len(scenes)-passed-failed, time.Since(began).Seconds())
}
