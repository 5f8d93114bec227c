package daemon

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// histories is the health of the last day: looks and proofs count for a vault, answers
// and proofs for the HSM.
type histories struct {
	hsm health.History

	mu     sync.Mutex
	vaults map[string]*health.History // by URL
	looked map[string]time.Time       // the newest look that was counted, by URL
}

func newHistories() *histories {
	return &histories{vaults: map[string]*health.History{}, looked: map[string]time.Time{}}
}

// vault is the history of one vault, begun at its first use.
func (h *histories) vault(url string) *health.History {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vaults[url] == nil {
		h.vaults[url] = new(health.History)
	}
	return h.vaults[url]
}

// proven counts a proof. One that did not pass speaks against the side whose leg it was,
// and a refuted one against the vault in any case.
func (h *histories) proven(s health.Subject, at time.Time, r proof.Result) {
	atHSM := r.Leg == proof.LegHSM
	switch {
	case r.Outcome == key.Passed:
		h.vault(s.Vault).Note(at, true)
		h.hsm.Note(at, true)
	case atHSM && r.Outcome == key.Inconclusive:
		h.hsm.Note(at, false)
	default:
		h.vault(s.Vault).Note(at, false)
	}
}

// look counts every vault of one key's look, unless a newer look was counted.
func (h *histories) look(o *record.Observation) {
	if o == nil {
		return
	}
	for url, seen := range o.Vaults {
		h.mu.Lock()
		newer := seen.Begun.After(h.looked[url])
		if newer {
			h.looked[url] = seen.Begun
		}
		h.mu.Unlock()
		if newer {
			h.vault(url).Note(seen.Begun, seen.Err == nil)
		}
	}
}

func (h *histories) ofVault(url string, now time.Time) *status.History {
	all := h.vault(url).Until(now)
	return &all
}

func (h *histories) ofHSM(now time.Time) *status.History {
	all := h.hsm.Until(now)
	return &all
}

// noteLooks counts what the newest looks of the keys saw.
func (d *Daemon) noteLooks() {
	for _, name := range d.loop.Names() {
		d.histories.look(d.observer.Last(name))
	}
}
