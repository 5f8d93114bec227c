package health

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// Histories is the health of the last day: looks and proofs count for a vault, answers and proofs for the HSM. Any
// goroutine may call its methods.
type Histories struct {
	hsm History

	mu     sync.Mutex
	vaults map[string]*History  // by URL
	looked map[string]time.Time // the newest look that was counted, by URL
}

// NewHistories returns Histories that have seen nothing.
func NewHistories() *Histories {
	return &Histories{vaults: map[string]*History{}, looked: map[string]time.Time{}}
}

// vault returns the history of one vault, and begins it if there is none.
func (h *Histories) vault(url string) *History {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vaults[url] == nil {
		h.vaults[url] = new(History)
	}
	return h.vaults[url]
}

// Proven counts a proof. A proof that did not pass counts against the side whose leg failed; a refuted one always
// counts against the vault. A vault that says what is wrong with this one key has answered: that is the key's trouble.
func (h *Histories) Proven(s Subject, at time.Time, r proof.Result) {
	atHSM := r.Leg == proof.LegHSM
	switch {
	case r.Outcome == key.Passed:
		h.vault(s.Vault).Note(at, true)
		h.hsm.Note(at, true)
	case atHSM && r.Outcome == key.Inconclusive:
		h.hsm.Note(at, false)
	case reasonOf(r).OfVersion():
		h.vault(s.Vault).Note(at, true)
	default:
		h.vault(s.Vault).Note(at, false)
	}
}

// Answered notes whether the HSM side could work when it was asked.
func (h *Histories) Answered(at time.Time, good bool) { h.hsm.Note(at, good) }

// Looked counts every vault of one key's look, unless a newer look was counted. It ignores a nil look.
func (h *Histories) Looked(o *record.Observation) {
	if o == nil {
		return
	}
	for url, seen := range o.Vaults {
		h.mu.Lock()
		newer := seen.AsOf().After(h.looked[url])
		if newer {
			h.looked[url] = seen.AsOf()
		}
		h.mu.Unlock()
		if newer {
			h.vault(url).Note(seen.AsOf(), seen.Err == nil || key.ReasonOf(seen.Err).OfVersion())
		}
	}
}

// OfVault returns the history of the vault with this URL.
func (h *Histories) OfVault(url string, now time.Time) *status.History {
	all := h.vault(url).Until(now)
	return &all
}

// OfHSM returns the history of the HSM side.
func (h *Histories) OfHSM(now time.Time) *status.History {
	all := h.hsm.Until(now)
	return &all
}
