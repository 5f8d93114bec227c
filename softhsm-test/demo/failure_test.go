package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAFailureIsAFewLinesForPeople(t *testing.T) {
	log := filepath.Join(t.TempDir(), "keyd.log")
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.Local).Format(time.RFC3339Nano)
	var lines []string
	for n := range 35 {
		lines = append(lines, fmt.Sprintf(`{"time":%q,"level":"WARN","msg":"step %d not done",`+
			`"STEP":"import","VAULT":"weu","error":"403\nForbidden"}`, at, n))
	}
	lines = append(lines, "keyd: the token \x1b[2Jis gone")
	if err := os.WriteFile(log, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	complain(&b, 0, errors.New("keyd put demo-key on hold: 403\nask for a role"), log)
	want := `
✗ The demo failed: keyd put demo-key on hold: 403
  ask for a role
  keyd's log ends:
    12:00:00  WARN  step 31 not done  import  weu  403 Forbidden
    12:00:00  WARN  step 32 not done  import  weu  403 Forbidden
    12:00:00  WARN  step 33 not done  import  weu  403 Forbidden
    12:00:00  WARN  step 34 not done  import  weu  403 Forbidden
    keyd: the token ` + "\uFFFD" + `[2Jis gone
  The whole log is in ` + log + "\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestAFailureFitsTheTerminal(t *testing.T) {
	var b strings.Builder
	err := errors.New("softhsm2-util --init-token: exec: not found (install it with: apt-get install softhsm2)")
	complain(&b, 40, err, "")
	for line := range strings.SplitSeq(b.String(), "\n") {
		if columns(line) >= 40 {
			t.Errorf("%d columns: %q", columns(line), line)
		}
	}
}

func TestNoErrorIsPrintedToAReaderThatWentAway(t *testing.T) {
	log := filepath.Join(t.TempDir(), "keyd.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	complain(&b, 0, fmt.Errorf("show the demo: %w", syscall.EPIPE), log)
	if b.String() != "" {
		t.Errorf("it says %q", b.String())
	}
	if _, err := os.Stat(log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log is left: %v", err)
	}
}
