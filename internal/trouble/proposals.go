package trouble

import (
	"fmt"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// proposal finds an act that nobody approves.
func (f *finder) proposal(p status.Proposal) {
	if !f.late(ProposalWaiting, p.Since) {
		return
	}
	remedy := fmt.Sprintf("look at it with keyd approvals; then a person other than %s approves or withdraws it",
		p.By.Actor)
	f.add(ProposalWaiting, about{key: p.Key, vault: p.VaultName, remedy: remedy},
		fmt.Sprintf("%s, which %s asked for at %s, has waited for a second operator since, and ends at %s", p.Words(),
			p.By.Actor, words.Moment(p.Since), words.Moment(p.Until)))
}
