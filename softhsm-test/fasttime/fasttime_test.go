package fasttime

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A program that waits an hour in each way ends within the test's patience, and its times are by the fast clock. By
// the machine's clock it would not end.
func TestAProgramFollowsTheFastClock(t *testing.T) {
	probe := filepath.Join(t.TempDir(), "probe")
	if err := Build(t.TempDir(), probe, "./testdata/probe"); err != nil {
		t.Fatal(err)
	}
	clock := Clock{Since: time.Now(), Factor: 36000}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, probe)
	cmd.Env = append(os.Environ(), clock.Environ())
	before := clock.Now()
	out, err := cmd.Output()
	after := clock.Now()
	if err != nil {
		t.Fatalf("the probe: %v", err)
	}
	ways := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); ways++ {
		var way string
		var begun, ended, since, until int64
		if _, err := fmt.Sscan(lines.Text(), &way, &begun, &ended, &since, &until); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if begun < before.UnixNano() || ended > after.UnixNano() {
			t.Errorf("%s: from %d to %d, which is not between %d and %d",
				way, begun, ended, before.UnixNano(), after.UnixNano())
		}
		for _, took := range []int64{ended - begun, since, until} {
			// A timer is set by the machine's clock, whose wall part may be slewed.
			if time.Duration(took) < 59*time.Minute {
				t.Errorf("%s: an hour took %s", way, time.Duration(took))
			}
		}
	}
	if ways != 5 {
		t.Errorf("the probe waited in %d ways, not 5:\n%s", ways, out)
	}
}

// A day passes at once, and time then goes on at the same pace.
func TestALaterClockIsAheadByTheGivenTime(t *testing.T) {
	c := Clock{Since: time.Now(), Factor: 60}
	later := c.Later(24 * time.Hour)
	before := c.Now()
	then := later.Now()
	after := c.Now()
	if early, late := then.Sub(after), then.Sub(before); early > 24*time.Hour || late < 24*time.Hour-time.Microsecond ||
		later.Factor != c.Factor {
		t.Errorf("it is ahead by %s to %s and runs %d times as fast", early, late, later.Factor)
	}
}

func TestAnUnknownGoVersionIsNamed(t *testing.T) {
	source := t.TempDir()
	for _, name := range []string{"time.go", "sleep.go", "tick.go"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte("package time\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := writeOverlay(t.TempDir(), source); err == nil || !strings.Contains(err.Error(), "fit fasttime to it") {
		t.Errorf("a time package with nothing to change: %v", err)
	}
}

// The ordinary build has no trace of it.
func TestTheOrdinaryBuildHasNoFastClock(t *testing.T) {
	const keyd = "github.com/keyd-project/keyd/cmd/keyd"
	dir := t.TempDir()
	fast, ordinary := filepath.Join(dir, "fast"), filepath.Join(dir, "ordinary")
	if err := Build(t.TempDir(), fast, keyd); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("go", "build", "-o", ordinary, keyd).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, said)
	}
	for program, want := range map[string]bool{fast: true, ordinary: false} {
		b, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Contains(b, []byte("FASTTIME")); got != want {
			t.Errorf("%s knows of FASTTIME: %t", filepath.Base(program), got)
		}
	}
}
