//go:build consumers

package consumers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	fasttime.ComeFirst()
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
