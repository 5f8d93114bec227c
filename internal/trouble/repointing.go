package trouble

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/status"
)

// repointing finds consumers that keyd could not move. A move that is under way is no problem: it fails by itself.
func (f *finder) repointing(k status.Key) {
	if k.Consumers == nil {
		return
	}
	for _, m := range k.Consumers.Moves {
		if !m.Bad() {
			continue
		}
		where := k.Name
		if m.Vault != "" {
			where += " in " + f.vaults[m.Vault]
		}
		text := fmt.Sprintf("%s: consumer %s", where, m.Words())
		if m.State == status.MoveFailed {
			text += "; keyd moves no other one"
		}
		f.add(RepointFailed, about{key: k.Name, vault: f.vaults[m.Vault]}, text)
	}
}
