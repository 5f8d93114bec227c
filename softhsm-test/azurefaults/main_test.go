// Package azurefaults_test runs keyd's loop, its real vault client, and its real
// HSM side on SoftHSM for an hour against an Azure that misbehaves. Its rule: after
// every fault the vaults, the token and the record are compared one by one; nothing
// may be lost and nothing doubled.
//
// The hour is one of a clock that keyd and the emulator share, and that moves when
// keyd would wait. `make test` rotates three times in it, `make faults`, which sets
// KEYD_HEAVY=1, twelve times.
package azurefaults_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// built is where the program under test and every world's directory are.
var built struct{ dir, keyd string }

// figures are what all tests together did; `make faults` prints them.
var figures struct{ faults, lost, doubled atomic.Int64 }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	var err error
	// Not the test's own directory: the path of a control socket is short.
	if built.dir, err = os.MkdirTemp("", "keyd-azure-"); err != nil {
		fmt.Fprintln(os.Stderr, "azurefaults:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built.dir) }()
	built.keyd = filepath.Join(built.dir, "keyd")
	out, err := exec.Command("go", "build", "-o", built.keyd, "github.com/keyd-project/keyd/cmd/keyd").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "azurefaults: go build: %v: %s\n", err, out)
		return 1
	}
	code = m.Run()
	fmt.Printf("faults: %d tried, lost %d, doubled %d\n", figures.faults.Load(), figures.lost.Load(), figures.doubled.Load())
	return code
}

// heavy asks for the long runs.
func heavy() bool { return os.Getenv("KEYD_HEAVY") != "" }
