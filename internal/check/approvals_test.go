package check

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func TestCheckWarnsIfNobodyCouldApprove(t *testing.T) {
	const self = 998
	for name, c := range map[string]struct {
		acts      []key.ActKind
		operators []uint32
		want      status.CheckResult // "": no line
	}{
		"no act needs it":          {nil, []uint32{1000}, ""},
		"one operator":             {key.ActKinds, []uint32{1000}, status.CheckWarning},
		"one, root and the daemon": {key.ActKinds, []uint32{1000, 0, self}, status.CheckWarning},
		"two operators":            {key.ActKinds, []uint32{1000, 1001}, status.CheckOK},
	} {
		lines := checked(t, func(x *checker) {
			x.Self = self
			x.Config.Approvals, x.Config.Control.Operators = config.Approvals{Acts: c.acts}, c.operators
			x.approvals()
		})
		if c.want == "" && len(lines) == 0 {
			continue
		}
		if len(lines) != 1 || lines[0].Result != c.want ||
			c.want == status.CheckWarning && !strings.Contains(lines[0].Detail, "nobody could approve") {
			t.Errorf("%s: %+v", name, lines)
		}
	}
}

func TestCheckShowsTheSettingsThatAreNotInForce(t *testing.T) {
	lines := checked(t, func(x *checker) {
		x.Unapproved = []string{"control.operators: 1000 -> 1001"}
		x.approvals()
	})
	if len(lines) != 1 || lines[0].Result != status.CheckWarning ||
		!strings.Contains(lines[0].Detail, "control.operators: 1000 -> 1001") {
		t.Errorf("%+v", lines)
	}
}
