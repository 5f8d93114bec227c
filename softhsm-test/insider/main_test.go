// Package insider_test attacks keyd from within. One side of it is in an attacker's hands: the attacker speaks the HSM
// side's protocol on its real socket, in place of the network side, and the real two processes run on a real token and
// emulated vaults. Its rule: an attack is one row of a table, and passes only if it gets nothing.
package insider_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built is the program under attack.
var built struct{ dir, keyd string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "insider:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built.dir) }()
	return m.Run()
}

func build() (err error) {
	// Not the test's own directory: the path of a socket must be short.
	if built.dir, err = os.MkdirTemp("", "keyd-insider-"); err != nil {
		return err
	}
	built.keyd = filepath.Join(built.dir, "keyd")
	out, err := exec.Command("go", "build", "-o", built.keyd, "github.com/keyd-project/keyd/cmd/keyd").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// attack is one way to get something that the attacker must not have.
type attack struct {
	name string
	// try makes the attack. It returns what the attacker got; "" for nothing.
	try func(w *world) string
}

func attacks() (all []attack) {
	for _, some := range [][]attack{
		wraps(), pairs(), configurations(), connections(), attestations(), retirements(),
	} {
		all = append(all, some...)
	}
	return all
}

// TestInsider tries every attack on one world, in order: each leaves the world as it found it.
func TestInsider(t *testing.T) {
	w := newWorld(t)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			attacked := *w
			attacked.T = t
			if got := a.try(&attacked); got != "" {
				t.Errorf("the attacker got %s", got)
			}
		})
	}
	w.wantWell()
}
