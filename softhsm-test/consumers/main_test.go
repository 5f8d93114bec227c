//go:build consumers

package consumers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

const program = "github.com/keyd-project/keyd/cmd/keyd"

// factor is how many times faster the clock runs: a minute takes a second.
const factor = 60

// built is the directory of the programs under test and of every world.
var built struct {
	dir  string
	keyd string // the ordinary build, for commands
	fast string // the same for the fast clock: the daemon and its HSM side
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "consumers:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built.dir) }()
	comeFirst()
	if code = m.Run(); verdict.kinds > 0 { // the whole story was told
		fmt.Println(verdict)
	}
	return code
}

func build() (err error) {
	// Not the test's own directory: the path of a control socket must be short.
	if built.dir, err = os.MkdirTemp("", "keyd-users-"); err != nil {
		return err
	}
	built.keyd, built.fast = filepath.Join(built.dir, "keyd"), filepath.Join(built.dir, "keyd-fast")
	if said, err := exec.Command("go", "build", "-o", built.keyd, program).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, said)
	}
	return fasttime.Build(built.dir, built.fast, program)
}

// comeFirst raises the priority of this process and its children, if it may (as root): the fast clock does not wait, so
// a delay of a second counts as a minute.
func comeFirst() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, -15)
		}
	}
}
