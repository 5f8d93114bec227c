package health

import "time"

// Restart forgets all proofs, as a new process does: whoever led meanwhile made others. It must not be called while Run
// goes on.
func (h *Health) Restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, k := range h.keys {
		h.drop(k.subjects)
		delete(h.keys, name)
	}
	h.refreshed, h.turned, h.unread = time.Time{}, time.Time{}, false
}
