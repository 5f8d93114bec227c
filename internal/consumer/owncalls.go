package consumer

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

// mostOwnCalls bounds how many of its own calls on one vault keyd remembers. keyd forgets the oldest first.
const mostOwnCalls = 50_000

// ownCall is one of keyd's own calls, as keyd made it, and where it was seen in the log.
type ownCall struct {
	ID        string    `json:"id"`
	Operation string    `json:"operation"`
	Key       string    `json:"key"` // in lower case
	Version   string    `json:"version"`
	Caller    string    `json:"caller,omitempty"` // object id in lower case; "": without a token
	Begun     time.Time `json:"begun"`
	Ended     time.Time `json:"ended"`
	// Must: the vault certainly carried it out, so its log must have it. Of other calls it may.
	Must bool `json:"must,omitempty"`
	// Seen is when it happened by the log, in each form of table.
	Seen [2]time.Time `json:"seen,omitzero"`
}

func newOwnCall(c vault.OwnCall) ownCall {
	return ownCall{
		ID: strings.ToLower(c.ID), Operation: c.Operation, Key: strings.ToLower(c.Key), Version: c.Version,
		Caller: strings.ToLower(c.Caller), Begun: c.Begun.Round(0).UTC(), Ended: c.Ended.Round(0).UTC(),
		Must: c.Caller != "" && c.Status >= 200 && c.Status < 300,
	}
}

func (c *ownCall) arrived() bool { return c.Seen != [2]time.Time{} }

// near reports whether a time by the log can be the call's: the clocks may differ by what keyd allows them to.
func (c *ownCall) near(t time.Time) bool {
	return !t.Before(c.Begun.Add(-key.MaxSkew)) && !t.After(c.Ended.Add(key.MaxSkew))
}

// is reports whether a row of the log is this call, and notes it. An id alone proves nothing: whoever sees a log can
// copy it. So caller, operation, key and version must be those of the call, the time near it, and no other row of the
// same table may have been the call before. Two rows with the same time are one: Log Analytics sometimes has a row
// twice.
func (c *ownCall) is(r logRow) bool {
	sameCaller := r.caller == c.Caller && (c.Caller != "" || r.status == 401)
	if !sameCaller || r.operation != c.Operation || r.key != c.Key || r.version != c.Version || !c.near(r.at) {
		return false
	}
	if seen := c.Seen[r.form]; !seen.IsZero() && !seen.Equal(r.at) {
		return false
	}
	c.Seen[r.form] = r.at
	return true
}

// ownCalls hears of keyd's own calls, and keeps those on vaults with a workspace until their ledger takes them.
type ownCalls struct {
	mu    sync.Mutex
	fresh map[string][]ownCall // by vault URL, of those that are watched
	// me has the object ids under which this process called each vault. It is never stored: a forged ledger must not be
	// able to name another's identity as keyd's.
	me map[string]map[string]bool
}

func newOwnCalls() *ownCalls {
	return &ownCalls{fresh: map[string][]ownCall{}, me: map[string]map[string]bool{}}
}

// watch keeps calls on these vaults from now on, and no others.
func (o *ownCalls) watch(vaults []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fresh := map[string][]ownCall{}
	for _, v := range vaults {
		fresh[v] = o.fresh[v]
	}
	o.fresh = fresh
}

func (o *ownCalls) add(vaultURL string, c vault.OwnCall) {
	own := newOwnCall(c)
	o.mu.Lock()
	defer o.mu.Unlock()
	calls, watched := o.fresh[vaultURL]
	if !watched {
		return
	}
	if len(calls) >= mostOwnCalls {
		calls = slices.Delete(calls, 0, len(calls)/2)
	}
	o.fresh[vaultURL] = append(calls, own)
	if own.Must {
		if o.me[vaultURL] == nil {
			o.me[vaultURL] = map[string]bool{}
		}
		o.me[vaultURL][own.Caller] = true
	}
}

// take returns the calls on a vault that no ledger has yet, and the identities under which this process calls it.
func (o *ownCalls) take(vaultURL string) (calls []ownCall, me map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls = o.fresh[vaultURL]
	if _, watched := o.fresh[vaultURL]; watched {
		o.fresh[vaultURL] = nil
	}
	me = map[string]bool{}
	for id := range o.me[vaultURL] {
		me[id] = true
	}
	return calls, me
}
