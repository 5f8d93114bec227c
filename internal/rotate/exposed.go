package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Acknowledge records that an operator answers for the versions of compromised material that are still enabled.
func (r *Rotator) Acknowledge(ctx context.Context, p key.Policy, actor, reason string) error {
	return r.change(ctx, p.Key, func(rec *record.Record) ([]chain.Entry, error) {
		seen := r.Observer.Last(p.Key)
		exposed := rec.Exposed(seen)
		switch {
		case !rec.OldestRequest(true).IsZero():
			return nil, refuse("the rotation of key %s because of the compromise is not finished: acknowledge once it "+
				"is; to see how far it is: keyd status %[1]s", p.Key)
		case len(exposed) == 0:
			return nil, refuse("key %s has no enabled version of compromised material: there is nothing to acknowledge",
				p.Key)
		}
		var versions []string
		for _, e := range exposed {
			versions = append(versions, rec.VaultName(p, e.Vault)+"/"+e.Version)
		}
		rec.Acknowledge(r.now(), seen)
		return []chain.Entry{{Event: chain.CompromiseAcknowledged, Actor: actor, Fields: map[string]string{
			"reason": reason, "versions": strings.Join(versions, " "), "count": fmt.Sprint(len(versions))}}}, nil
	})
}

// exposure is how many exposed versions are in a vault.
type exposure struct {
	vault string // name
	n     int
}

// Looked shows how many versions of compromised material a key exposes, by its record and the newest look at it (nil:
// none yet).
func (m *Metrics) Looked(p key.Policy, rec *record.Record, seen *record.Observation) {
	var counts []exposure
	for _, e := range rec.Exposed(seen) {
		name := rec.VaultName(p, e.Vault)
		i := slices.IndexFunc(counts, func(c exposure) bool { return c.vault == name })
		if i < 0 {
			i, counts = len(counts), append(counts, exposure{vault: name})
		}
		counts[i].n++
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(counts) == 0 {
		delete(m.shows, p.Key)
		return
	}
	m.shows[p.Key] = counts
}
