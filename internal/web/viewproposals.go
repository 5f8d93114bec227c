package web

import (
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// proposalFacts are the acts about a key or a vault that wait for a second operator.
func proposalFacts(now time.Time, s status.Snapshot, concerns func(status.Proposal) bool) (facts []string) {
	for _, p := range s.Proposals {
		if concerns(p) {
			facts = append(facts, "waits for a second operator: "+p.Words()+", asked for by "+p.By.Actor+" "+
				day(now, p.Since))
		}
	}
	return facts
}
