package consumer

// Restart forgets all looks, as a new process does: whoever led meanwhile remembers others. It must not be called while
// Run goes on.
func (w *Watcher) Restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.keys)
}

// Restart forgets what the ledgers had, as a new process does: whoever led meanwhile wrote others. It must not be
// called while Run goes on.
func (e *Evidence) Restart() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.vaults)
}
