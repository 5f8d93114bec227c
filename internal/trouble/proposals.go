package trouble

import (
	"fmt"
	"slices"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// proposal finds an act that nobody approves.
func (f *finder) proposal(p status.Proposal) {
	if p.Kind == key.ActConfigure || !f.late(ProposalWaiting, p.Since) {
		return
	}
	remedy := fmt.Sprintf("look at it with keyd approvals; then a person other than %s approves or withdraws it",
		p.By.Actor)
	f.add(ProposalWaiting, about{key: p.Key, vault: p.VaultName, remedy: remedy},
		fmt.Sprintf("%s, which %s asked for at %s, has waited for a second operator since, and ends at %s", p.Words(),
			p.By.Actor, words.Moment(p.Since), words.Moment(p.Until)))
}

// settings finds that the configuration's files differ from what keyd acts on, whether a proposal waits or not: what
// somebody wrote there, believing that it counts, does not.
func (f *finder) settings(proposals []status.Proposal) {
	if f.Unapproved == 0 {
		return
	}
	differ := fmt.Sprintf(
		"the configuration's files differ from what is in force in %s, which need a second operator: ",
		words.Count(f.Unapproved, "setting"),
	)
	i := slices.IndexFunc(proposals, func(p status.Proposal) bool { return p.Kind == key.ActConfigure })
	switch {
	case i < 0:
		f.add(SettingsWaiting, about{}, differ+"no proposal waits")
	case !proposals[i].By.Known():
		f.add(
			SettingsWaiting,
			about{remedy: "look at them with keyd approvals; an operator who wants them runs keyd " +
				"reload, and another person approves; or put the files back, then: keyd reload"},
			differ+"proposal "+string(proposals[i].ID)+" waits, and keyd does not know who asks for it",
		)
	default:
		p := proposals[i]
		f.add(
			SettingsWaiting,
			about{remedy: fmt.Sprintf("look at them with keyd approvals; then a person other than %s "+
				"approves or withdraws them", p.By.Actor)},
			fmt.Sprintf("%sproposal %s of %s waits until %s", differ, p.ID,
				p.By.Actor, words.Moment(p.Until)),
		)
	}
}
