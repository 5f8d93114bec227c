package e2e_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	faultSource = "../faultmodule"
	countersOf  = 8 // bytes of one counter
)

// faultModule builds softhsm-test/faultmodule once and returns its path.
var faultModule = sync.OnceValues(func() (string, error) {
	path := filepath.Join(built.dir, "faultmodule.so")
	if out, err := exec.Command("make", "-C", faultSource, "OUT="+path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make -C %s: %w: %s (install: apt-get install gcc make)", faultSource, err, out)
	}
	return path, nil
})

// faultFunctions are the functions that the module counts, in its order.
var faultFunctions = sync.OnceValues(func() ([]string, error) {
	source, err := os.ReadFile(filepath.Join(faultSource, "faultmodule.c"))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range regexp.MustCompile(`\bX\((\w+)\)`).FindAllSubmatch(source, -1) {
		names = append(names, "C_"+string(m[1]))
	}
	if len(names) == 0 || !slices.Contains(names, "C_GenerateKeyPair") {
		return nil, fmt.Errorf("no list of functions in faultmodule.c: %v", names)
	}
	return names, nil
})

// faulty is a world whose HSM library misbehaves by rule.
type faulty struct{ *world }

// newFaulty makes a world with the fault module, short deadlines and no faults yet.
func newFaulty(t *testing.T, change func(*settings)) *faulty {
	t.Helper()
	module, err := faultModule()
	if err != nil {
		t.Fatal(err)
	}
	var real string
	w := newWorld(t, func(s *settings) {
		real, s.module = s.module, module
		s.timeouts = ", call_timeout: 3s, generate_timeout: 8s"
		if change != nil {
			change(s)
		}
	})
	w.env = append(w.env, "FAULTMODULE_REAL="+real, "FAULTMODULE_RULES="+w.path("rules"),
		"FAULTMODULE_COUNTS="+w.path("counts"))
	return &faulty{w}
}

// misbehave replaces the rules; no rule ends the fault.
func (f *faulty) misbehave(rules ...string) {
	f.t.Helper()
	f.write("rules.new", strings.Join(rules, "\n")+"\n")
	if err := os.Rename(f.path("rules.new"), f.path("rules")); err != nil {
		f.t.Fatal(err)
	}
}

// called counts the calls of the library's function by any process of this world.
func (f *faulty) called(function string) int { return f.counter(function, 0) }

// struck counts how often a rule affected the function.
func (f *faulty) struck(function string) int { return f.counter(function, 1) }

func (f *faulty) counter(function string, array int) int {
	f.t.Helper()
	names, err := faultFunctions()
	if err != nil {
		f.t.Fatal(err)
	}
	i := slices.Index(names, function)
	data, err := os.ReadFile(f.path("counts"))
	if err != nil || i < 0 || len(data) != 2*len(names)*countersOf {
		f.t.Fatalf("no counter of %s: %v (%d bytes)", function, err, len(data))
	}
	return int(binary.NativeEndian.Uint64(data[(array*len(names)+i)*countersOf:]))
}

// next is a rule for the next call of the function, by any process.
func (f *faulty) next(function, action string) string {
	f.t.Helper()
	return fmt.Sprintf("%s %d %s", function, f.called(function)+1, action)
}
