package rotate

// Restart has the loop begin anew, as a new process does, with the keys and vaults that it has: whoever led meanwhile
// may have changed everything. It must not be called while Run or RunOnce goes on.
func (l *Loop) Restart() {
	l.mu.Lock()
	keys, vaults := l.policies, l.vaultRules
	clear(l.keys)
	clear(l.vaults)
	clear(l.needs)
	l.queue, l.begun, l.unlooked, l.done, l.started = newQueue(), 0, 0, 0, false
	l.mu.Unlock()
	l.SetVaults(vaults)
	l.SetPolicies(keys)
}
