package e2e_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
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
			t.Errorf("the public modulus of version %s is not found in the core, so it cannot show that the private "+
				"key is not there", v.ID)
		}
		for name, n := range secrets(private) {
			if holdsNumber(memory, n) {
				t.Errorf("%s of version %s is in the memory of the process that talks to the network", name, v.ID)
			}
		}
	}
}

// The test above must be able to fail: a core of a process that holds the PIN shows it.
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

// core returns every page that a process has in memory, as a core dump would. It stops the process while it reads.
func (w *world) core(pid int) (memory []byte) {
	w.t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	proc := fmt.Sprintf("/proc/%d/", pid)
	maps, err := os.ReadFile(proc + "maps")
	if err != nil {
		w.t.Fatal(err)
	}
	mem, memErr := os.Open(proc + "mem")
	pagemap, mapErr := os.Open(proc + "pagemap")
	if err := errors.Join(memErr, mapErr); err != nil {
		w.t.Fatal(err)
	}
	defer mem.Close()
	defer pagemap.Close()
	for line := range strings.Lines(string(maps)) {
		var begin, end uint64
		var access string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &access); err != nil {
			w.t.Fatalf("%s: %v", line, err)
		}
		if access[0] != 'r' || strings.Contains(line, "[v") { // vvar, vsyscall: the kernel's
			continue
		}
		part, err := resident(mem, pagemap, int64(begin), int64(end))
		if err != nil {
			w.t.Fatalf("read %s: %v", line, err)
		}
		memory = append(memory, part...)
	}
	return memory
}

// resident reads the pages of one mapping that are in memory, by pagemap
// (Documentation/admin-guide/mm/pagemap.rst of the kernel: eight bytes for each
// page, bit 63 says that it is present).
func resident(mem, pagemap *os.File, begin, end int64) (data []byte, err error) {
	page := int64(os.Getpagesize())
	entries := make([]byte, (end-begin)/page*8)
	if _, err := pagemap.ReadAt(entries, begin/page*8); err != nil {
		return nil, err
	}
	buffer := make([]byte, page)
	for i := int64(0); i < (end-begin)/page; i++ {
		if binary.NativeEndian.Uint64(entries[i*8:])>>63 == 0 {
			continue
		}
		if _, err := mem.ReadAt(buffer, begin+i*page); err != nil {
			return nil, err
		}
		data = append(data, buffer...)
	}
	return data, nil
}

// secrets are the numbers of an RSA key that only its owner may know.
func secrets(k *rsa.PrivateKey) map[string]*big.Int {
	return map[string]*big.Int{
		"the prime p": k.Primes[0], "the prime q": k.Primes[1], "the exponent d": k.D,
		"d mod p-1": k.Precomputed.Dp, "d mod q-1": k.Precomputed.Dq, "q^-1 mod p": k.Precomputed.Qinv,
	}
}

// holdsNumber looks for a number in either byte order, and for pieces of it: freed memory may be partly overwritten.
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
