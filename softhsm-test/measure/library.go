// Package measure counts from outside what processes cost: calls of a PKCS#11 library and the time in them, processor
// time and memory. Its rule: what is measured does not know it.
package measure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"
)

// Library stands before a PKCS#11 library and counts its calls. It is softhsm-test/faultmodule without a fault.
type Library struct {
	Module    string // its path
	real, dir string
	functions []string // in the order of the counters
}

var listed = regexp.MustCompile(`\bX\((\w+)\)`)

// NewLibrary builds the library from its source directory into dir, for the real one at this path.
func NewLibrary(source, dir, real string) (*Library, error) {
	l := &Library{Module: filepath.Join(dir, "faultmodule.so"), real: real, dir: dir}
	if said, err := exec.Command("make", "-s", "-C", source, "OUT="+l.Module).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make -C %s: %w: %s (install it with: apt-get install gcc make)", source, err, said)
	}
	text, err := os.ReadFile(filepath.Join(source, "faultmodule.c"))
	if err != nil {
		return nil, err
	}
	for _, m := range listed.FindAllSubmatch(text, -1) {
		l.functions = append(l.functions, "C_"+string(m[1]))
	}
	return l, nil
}

// Environ is what processes need in their environment; those that are given the same name are counted together.
func (l *Library) Environ(name string) []string {
	return []string{"FAULTMODULE_REAL=" + l.real, "FAULTMODULE_COUNTS=" + l.counts(name),
		"FAULTMODULE_SPENT=" + l.spent(name)}
}

func (l *Library) counts(name string) string { return filepath.Join(l.dir, name+".pkcs11-calls") }
func (l *Library) spent(name string) string  { return filepath.Join(l.dir, name+".pkcs11-time") }

// Calls are how often each function was called so far, without those that never were.
func (l *Library) Calls(name string) (Kinds, error) {
	calls, _, err := l.read(l.counts(name))
	return calls, err
}

// Spent is the time so far in one function: of the processor, and by the clock.
func (l *Library) Spent(name, function string) (processor, clock time.Duration, err error) {
	first, second, err := l.read(l.spent(name))
	return time.Duration(first[function]), time.Duration(second[function]), err
}

// read reads a file of two arrays of counters, which is not there before the library was first loaded.
func (l *Library) read(path string) (first, second Kinds, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	const width = 8 // bytes of a counter
	if err == nil && len(data) != 2*width*len(l.functions) {
		err = fmt.Errorf("%s has %d bytes for %d functions", path, len(data), len(l.functions))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the counters of the PKCS#11 library: %w", err)
	}
	array := func(begin int) Kinds {
		k := Kinds{}
		for i, name := range l.functions {
			if n := binary.NativeEndian.Uint64(data[(begin+i)*width:]); n > 0 {
				k[name] = int(n)
			}
		}
		return k
	}
	return array(0), array(len(l.functions)), nil
}

// Kinds are numbers of calls by their kind.
type Kinds map[string]int

// Minus is what came after before.
func (k Kinds) Minus(before Kinds) Kinds {
	d := Kinds{}
	maps.Copy(d, k)
	for kind, n := range before {
		if d[kind] -= n; d[kind] == 0 {
			delete(d, kind)
		}
	}
	return d
}

// Sum is the number of all calls.
func (k Kinds) Sum() (n int) {
	for _, v := range k {
		n += v
	}
	return n
}
