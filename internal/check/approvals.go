package check

import (
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/words"
)

// approvals says whether somebody could approve the acts that need a second operator. Operators who ask and approve are
// configured users: nobody can tell who is behind root.
func (c *checker) approvals() {
	if len(c.Unapproved) > 0 {
		c.warn(
			"config",
			c.ConfigPath,
			"in force",
			"keyd does not act on all of it, because a second operator must approve: "+
				strings.Join(
					c.Unapproved,
					"; ",
				),
			"keyd approvals shows the proposal that waits; if none does: keyd reload",
		)
	}
	acts := c.Config.Approvals.Acts
	if len(acts) == 0 {
		return
	}
	const name = "approvals by a second operator"
	if n := len(c.Config.Approvers(c.Self)); n < 2 {
		c.warn(
			"config",
			"approvals",
			name,
			fmt.Sprintf("nobody could approve: %s in control.operators, besides root "+
				"and the daemon's own user, and one asks while another approves", words.Count(n, "operator")),
			"as root, add a second person to control.operators, then: keyd accept-settings --reason …; keyd reload",
		)
		return
	}
	c.add("config", "approvals", name, nil, fmt.Sprintf("%s need one: %v", words.Count(len(acts), "act"), acts), "")
}
