package e2e_test

import (
	"bytes"
	"crypto/rsa"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheNetworkSidesMemoryHoldsNeitherPINNorPrivateKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.vaults = []string{"weu", "mhsm"} })
	w.start()
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "one more to look for")
	memory := w.core(w.daemon.cmd.Process.Pid)

	if holds(memory, []byte(w.token.PIN)) {
		t.Error("the PIN is in the memory of the process that talks to the network")
	}
	for _, v := range w.vault["weu"].Versions(keyName) {
		private, err := w.vault["weu"].PrivateKey(keyName, v.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !holdsNumber(memory, private.N) {
			t.Errorf("the public modulus of version %s is not found in the core, so it cannot show that the private key is not there", v.ID)
		}
		for name, n := range secrets(private) {
			if holdsNumber(memory, n) {
				t.Errorf("%s of version %s is in the memory of the process that talks to the network", name, v.ID)
			}
		}
	}
}

// The test above must be able to fail: a core of a process that does hold the PIN
// shows it.
func TestACoreShowsThePINOfAProcessThatHoldsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	holder := exec.Command("sh", "-c", `read -r pin <"$0" && echo holding && read -r end`, w.token.PINFile)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = holder.Wait() }()
	if _, err := fmt.Fscanln(out, new(string)); err != nil {
		t.Fatalf("the process that holds the PIN does not start: %v", err)
	}
	if !holds(w.core(holder.Process.Pid), []byte(w.token.PIN)) {
		t.Error("the PIN is not found in the core of a process that holds it")
	}
}

// core is the memory of a process, as a debugger sees it.
func (w *world) core(pid int) []byte {
	w.t.Helper()
	out, err := exec.CommandContext(w.t.Context(), "gcore", "-o", w.path("core"), fmt.Sprint(pid)).CombinedOutput()
	if err != nil {
		w.t.Fatalf("gcore: %v: %s (install it with: apt-get install gdb)", err, out)
	}
	files, err := filepath.Glob(w.path("core.*"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("gcore left %v: %v: %s", files, err, out)
	}
	memory, err := os.ReadFile(files[0])
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.Remove(files[0]); err != nil {
		w.t.Fatal(err)
	}
	if strings.Contains(string(out), "cannot access memory") {
		w.t.Fatalf("the core is not whole (%d bytes): %s", len(memory), out)
	}
	return memory
}

// secrets are the numbers of an RSA key that only its owner may know.
func secrets(k *rsa.PrivateKey) map[string]*big.Int {
	return map[string]*big.Int{
		"the prime p": k.Primes[0], "the prime q": k.Primes[1], "the exponent d": k.D,
		"d mod p-1": k.Precomputed.Dp, "d mod q-1": k.Precomputed.Dq, "q^-1 mod p": k.Precomputed.Qinv,
	}
}

// holdsNumber looks for a number in either byte order, and for pieces of it: what
// was freed may be written over in part.
func holdsNumber(memory []byte, n *big.Int) bool {
	const piece = 32
	b := n.Bytes()
	for _, order := range [][]byte{b, reversed(b)} {
		for _, at := range []int{0, len(order)/2 - piece/2, len(order) - piece} {
			if holds(memory, order[at:at+piece]) {
				return true
			}
		}
	}
	return false
}

func holds(memory, what []byte) bool { return bytes.Contains(memory, what) }

func reversed(b []byte) []byte {
	r := slices.Clone(b)
	slices.Reverse(r)
	return r
}
