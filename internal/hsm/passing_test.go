package hsm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A state directory that keyd cannot write does not mean that the token refused the PIN. Once keyd can write it, keyd
// tries the PIN.
func TestADiskFaultAtLoginIsNotARefusedPIN(t *testing.T) {
	dir := t.TempDir()
	m := newPINMemory(dir, "serial")
	inTheWay := filepath.Join(dir, "pin-tried.json")
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.begin([]byte("1234")); !errors.Is(err, errNotNoted) {
		t.Fatalf("%v, want errNotNoted: the fault is the disk's", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := m.begin([]byte("1234")); err != nil {
		t.Fatalf("after the fault: %v", err)
	}
}
