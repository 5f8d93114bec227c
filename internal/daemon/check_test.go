package daemon

import (
	"context"
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

// Nothing answers here, and the proxy's address is a port on which nobody listens.
func TestACheckInWhichNothingAnswersSaysWhatToDoOnEveryLine(t *testing.T) {
	d, _ := newDaemon(t)
	found, _ := d.Check(ended(t), "", nil)
	lines := found.Checks
	failed := map[string]bool{}
	for _, l := range lines {
		if l.Result != status.CheckOK && (l.Detail == "" || l.Remedy == "" && l.Result != status.CheckSkipped) {
			t.Errorf("a line lacks its reason or its remedy: %+v", l)
		}
		if l.Result == status.CheckFailed {
			failed[l.Area] = true
		}
	}
	for _, area := range []string{"hsm", "identity", "vault", "key"} {
		if !failed[area] {
			t.Errorf("nothing failed in area %s: %+v", area, lines)
		}
	}
}

// ended is a context that has ended: no call has time to answer.
func ended(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// checkedFor is the one line of a check with this area and name.
func checkedFor(ctx context.Context, t *testing.T, d *Daemon, area, name string) status.Check {
	t.Helper()
	found, _ := d.Check(ctx, "", nil)
	lines := found.Checks
	i := slices.IndexFunc(lines, func(l status.Check) bool { return l.Area == area && l.Name == name })
	if i < 0 {
		t.Fatalf("no line of area %s is named %q: %+v", area, name, lines)
	}
	return lines[i]
}
