package rotate

import "github.com/keyd-project/keyd/internal/key"

// Restart has the loop begin anew, as a new process does, with the keys and vaults that it has: whoever led meanwhile
// may have changed everything. It must not be called while Run or RunOnce goes on.
func (l *Loop) Restart() {
	l.mu.Lock()
	var keys []key.Policy
	for _, j := range l.keys {
		keys = append(keys, j.policy)
	}
	var vaults []key.VaultPolicy
	for _, j := range l.vaults {
		vaults = append(vaults, j.vault)
	}
	clear(l.keys)
	clear(l.vaults)
	clear(l.needs)
	l.queue, l.begun, l.unlooked, l.done, l.started = newQueue(), 0, 0, 0, false
	l.mu.Unlock()
	l.SetVaults(vaults)
	l.SetPolicies(keys)
}
