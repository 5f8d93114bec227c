// Package azurefaults_test runs both processes of the real keyd on SoftHSM for an hour
// against a faulty Azure. Its rule: after every fault the tests compare vaults, token
// and record one by one. Nothing may be lost or doubled, and only due versions may be
// disabled.
//
// The hour is an hour of a fast clock (softhsm-test/fasttime), which keyd and the
// emulator share, so every wait is shorter. `make faults`, which sets KEYD_HEAVY=1,
// rotates twelve times in each hour, `make test` six times in the hours of its sample.
package azurefaults_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/fasttime"
)

const program = "github.com/keyd-project/keyd/cmd/keyd"

// built is the directory of the programs under test and of every world.
var built struct {
	dir  string
	keyd string // the ordinary build, for commands
	fast string // the same for the fast clock: the daemon and its HSM side
}

// pace says how fast an hour passes.
var pace struct{ factor, rotations int }

// figures are the totals of all tests; `make faults` prints them.
var figures struct{ faults, lost, doubled atomic.Int64 }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	flag.Parse()
	pace.factor, pace.rotations = 75, 6
	if heavy() {
		pace.factor, pace.rotations = 60, 12
	} else if err := flag.Set("test.parallel", "4"); err != nil { // the sample; an hour is mostly waiting
		fmt.Fprintln(os.Stderr, "azurefaults:", err)
		return 1
	}
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "azurefaults:", err)
		return 1
	}
	fasttime.ComeFirst()
	defer func() { _ = os.RemoveAll(built.dir) }()
	code = m.Run()
	fmt.Printf("faults: %d tried, lost %d, doubled %d\n",
		figures.faults.Load(), figures.lost.Load(), figures.doubled.Load())
	return code
}

func build() (err error) {
	// Not the test's own directory: the path of a control socket must be short.
	if built.dir, err = os.MkdirTemp("", "keyd-azure-"); err != nil {
		return err
	}
	built.keyd, built.fast = filepath.Join(built.dir, "keyd"), filepath.Join(built.dir, "keyd-fast")
	if said, err := exec.Command("go", "build", "-o", built.keyd, program).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, said)
	}
	return fasttime.Build(built.dir, built.fast, program)
}

// heavy reports whether the long runs were requested.
func heavy() bool { return os.Getenv("KEYD_HEAVY") != "" }
