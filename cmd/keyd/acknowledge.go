package main

import (
	"github.com/spf13/cobra"

	"github.com/keyd-project/keyd/internal/control"
)

func (a *app) acknowledge() *cobra.Command {
	return a.holding(&cobra.Command{
		Use:   "acknowledge KEY --reason TEXT",
		Short: "Answer for compromised versions that stay enabled",
		Long: `acknowledge records that you answer for the versions of a key's compromised material that are
still enabled, such as for an archive. It changes nothing in the vaults, and ends what reminds of
those versions. A later compromise reminds of its own. It waits until the rotation because of the
compromise is finished.`,
		Example: `  keyd acknowledge sa-cmk-key --reason "the archive is read with generation 2 until May"`,
	}, (*control.Client).Acknowledge, "acknowledged", "You answer for the compromised versions of %s that are enabled.")
}

// sayWhatFollows tells what a compromise leaves to the person.
func (a *app) sayWhatFollows(names []string) {
	one := "KEY"
	if len(names) == 1 {
		one = names[0]
	}
	a.note("What is left to do after the compromise of %s:", list(names))
	a.note("  1. Have every consumer use the new version, and encrypt its data keys again under it.")
	a.note("  2. Disable the compromised versions. `keyd status %s` lists them, and the runbook", one)
	a.note("     #keydcompromisedenabled has the command.")
	a.note("  3. If some must stay enabled: keyd acknowledge %s --reason …", one)
	a.note("Until then keyd status and an alert remind of them.")
}
