package simulate

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Decade is ten years of many keys in a Key Vault and a Managed HSM, rotated every
// quarter by one daemon, with a fault in one of two thousand calls. It looks at a
// quiet key only once a month, because a look that finds nothing tests nothing.
func (ps Primes) Decade(seed uint64, keys int, opts Options) Result {
	const (
		year    = 365 * 24 * time.Hour
		quarter = year / 4
	)
	w := newWorld(ps, seed, opts)
	w.plain, w.alone = true, true
	w.guard(func() {
		for _, v := range []key.Vault{
			{Name: "vault", URL: "https://vault.vault.azure.net", Kind: key.KeyVault},
			{Name: "pool", URL: "https://pool.managedhsm.azure.net", Kind: key.ManagedHSM},
		} {
			w.vaults = append(w.vaults, w.newVault(v))
		}
		for i := range keys {
			w.manage(fmt.Sprintf("key-%d", i+1), quarter)
			w.keys[i].home.Spread = 14 * 24 * time.Hour
			w.keys[i].policy = w.keys[i].home
		}
		w.rate = 0.0005
		w.employ("daemon", 30*24*time.Hour)
		for end := w.now.Add(10 * year); w.now.Before(end); {
			w.turn(end)
			w.attend()
		}
		w.settle()
	})
	return w.result
}
