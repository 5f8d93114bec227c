package rights_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// asked is set in the runs that the other test starts, and says which right the probe asks for.
const asked = "RIGHTS_TEST_ASKED"

func TestProbe(t *testing.T) {
	switch os.Getenv(asked) {
	case "mount":
		rights.ToMount(t)
	case "user":
		rights.ToBecomeAnotherUser(t)
	}
}

// run runs the probe through .ci/test in a process without rights, as make test runs every test.
func run(t *testing.T, asks, ci string) (out string, err error) {
	t.Helper()
	argv := []string{"../../.ci/test", "-run", "^TestProbe$", "."}
	if os.Geteuid() == 0 {
		argv = slices.Concat([]string{"setpriv", "--bounding-set=-all"}, argv)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), asked+"="+asks, "CI="+ci)
	b, err := cmd.CombinedOutput()
	return string(b), err
}

func lastLine(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

func TestARunEndsWithTheNamesOfSkippedTests(t *testing.T) {
	for asks, want := range map[string]string{
		"nothing": "skipped: 0",
		"mount":   "skipped: 1 (TestProbe: needs CAP_SYS_ADMIN, to mount a file system: operation not permitted)",
		"user":    "skipped: 1 (TestProbe: needs CAP_SETUID and CAP_SETGID, to become another user: fork/exec ",
	} {
		for range 2 { // the second time from go test's cache, if that is possible
			out, err := run(t, asks, "")
			if err != nil || !strings.HasPrefix(lastLine(out), want) {
				t.Errorf("asked for %s: %v, and it ends with\n%s\nwant\n%s", asks, err, out, want)
			}
		}
	}
}

func TestInCIASkipIsAFailure(t *testing.T) {
	for asks, fails := range map[string]bool{"nothing": false, "mount": true, "user": true} {
		out, err := run(t, asks, "true")
		said := strings.Contains(out, "in CI nothing is skipped")
		if (err != nil) != fails || said != fails || lastLine(out) != "skipped: 0" {
			t.Errorf("asked for %s: %v\n%s", asks, err, out)
		}
	}
}
