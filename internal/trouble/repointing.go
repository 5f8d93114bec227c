package trouble

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/status"
)

// repointing finds a consumer that keyd could not move. One that is under way is no problem: it fails by itself.
func (f *finder) repointing(k status.Key) {
	if r := k.Repointing; r != nil && r.Failed != "" {
		f.add(RepointFailed, about{key: k.Name, vault: f.vaults[r.Vault]}, fmt.Sprintf(
			"%s in %s: consumer %s; keyd moves no other one", k.Name, f.vaults[r.Vault], r.Words()))
	}
}
