// Package bench_test compares keyd with bare calls: the same PKCS#11 and HTTPS calls in a loop, and the script that an
// operator writes. Its rule: both sides run in the same run, on the same token and the same emulated Azure, and the
// numbers are printed with their goals and never judged.
package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// built is the directory of the programs and of every world.
var built string

func TestMain(m *testing.M) {
	if os.Getenv(bareJob) != "" {
		if err := do(os.Getenv(bareJob)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) (code int) {
	var err error
	if built, err = os.MkdirTemp("", "keyd-bench-"); err != nil { // short: a socket's path is in it
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(built) }()
	said, err := exec.Command("go", "build", "-o", built+"/", "github.com/keyd-project/keyd/cmd/...").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: go build: %v: %s\n", err, said)
		return 1
	}
	return m.Run()
}

func program(name string) string { return filepath.Join(built, name) }
