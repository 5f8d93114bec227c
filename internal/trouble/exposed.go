package trouble

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// exposed finds versions of compromised material that are still enabled. While the rotation because of the compromise
// is not finished, that is what to look at.
func (f *finder) exposed(k status.Key) {
	if len(k.Exposed) == 0 || slices.ContainsFunc(k.Requests, func(q key.Request) bool { return q.Compromise }) {
		return
	}
	var names []string
	for _, e := range k.Exposed {
		if name := cmp.Or(f.vaults[e.Vault], e.Vault); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	here := about{key: k.Name}
	if len(names) == 1 {
		here.vault = names[0]
	}
	f.add(CompromisedEnabled, here, fmt.Sprintf("%s has %s of compromised material in %s", k.Name,
		words.Count(len(k.Exposed), "enabled version"), strings.Join(names, ", ")))
}
