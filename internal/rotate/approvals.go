package rotate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/words"
)

// maxProposals is how many acts about one key or vault may wait for a second operator at once.
const maxProposals = 10

type personKey struct{}

// WithPerson tells the acts under the context who asks for them.
func WithPerson(ctx context.Context, p key.Person) context.Context {
	return context.WithValue(ctx, personKey{}, p)
}

// ProposedError says that an act needs a second operator, and waits for one. It is recorded.
type ProposedError struct{ Proposals []key.Proposal }

func (e *ProposedError) Error() string {
	var lines []string
	for _, p := range e.Proposals {
		lines = append(lines, fmt.Sprintf("%s %s needs a second operator. It waits until %s as a proposal. A person "+
			"other than you runs: keyd approve %s --reason …", p.Kind, p.Subject(), words.Moment(p.Until), p.ID))
	}
	return strings.Join(lines, "\n")
}

// Class is key.Refused: asking again does not help.
func (e *ProposedError) Class() key.Class { return key.Refused }

// gate lets an act through with the consent that it needs. An act that needs a second operator becomes a proposal
// instead, until that operator approves it.
type gate struct {
	r        *Rotator
	by       key.Person // who asks for the act, or approves it
	approves key.ID     // the proposal; "": by asks for the act
	reason   string     // of the approval
	proposed *key.Proposal
}

// asking is the gate for the person who asks.
func (r *Rotator) asking(ctx context.Context) *gate {
	by, _ := ctx.Value(personKey{}).(key.Person)
	return &gate{r: r, by: by}
}

func (r *Rotator) approvals() key.Approvals {
	if r.Approvals == nil {
		return key.Approvals{}
	}
	return r.Approvals()
}

// pass reports whether the act may happen now, in the very save that records the entries and the proposals of the
// record. If it may not, that save records the proposal. state is the record's digest before the act.
func (g *gate) pass(
	list *record.Proposals,
	state string,
	act key.Act,
) (entries []chain.Entry, through bool, err error) {
	g.proposed = nil
	rules := g.r.approvals()
	if g.approving() {
		entries, err = g.approve(list, state, act, rules)
		return entries, err == nil, err
	}
	if !rules.Needs(act.Kind) {
		return nil, true, nil
	}
	entries, err = g.propose(list, state, act, rules)
	return entries, false, err
}

// passKey is pass for an act about the key of a record.
func (g *gate) passKey(rec *record.Record, act key.Act) (entries []chain.Entry, through bool, err error) {
	act.Key = rec.Key
	state, err := rec.State()
	if err != nil {
		return nil, false, err
	}
	return g.pass(&rec.Proposals, state, act)
}

// passVault is pass for an act about the vault of a record.
func (g *gate) passVault(rec *record.Vault, act key.Act) (entries []chain.Entry, through bool, err error) {
	act.Vault = rec.URL
	state, err := rec.State()
	if err != nil {
		return nil, false, err
	}
	return g.pass(&rec.Proposals, state, act)
}

// approving reports whether the gate is for the approval of a proposal. Then every act must pass it, so that nothing
// happens but what was proposed.
func (g *gate) approving() bool { return g.approves != "" }

// outcome is the error of an act: that it waits, if it was recorded as a proposal.
func (g *gate) outcome(err error) error {
	if err == nil && g.proposed != nil {
		return &ProposedError{[]key.Proposal{*g.proposed}}
	}
	return err
}

func (g *gate) propose(
	list *record.Proposals,
	state string,
	act key.Act,
	rules key.Approvals,
) ([]chain.Entry, error) {
	if err := identified(g.by, rules); err != nil {
		return nil, err
	}
	entries := dropOver(list, g.r.now())
	for _, old := range *list {
		if old.Kind != act.Kind || !maps.Equal(old.Arguments, act.Arguments) {
			continue
		}
		if sum, err := old.Sum(state, rules.Config); err != nil || sum == old.Digest {
			return nil, refuse("%s %s is proposed already, and waits until %s: keyd approve %s --reason … approves "+
				"it, by a person other than %s", act.Kind, act.Subject(), words.Moment(old.Until), old.ID, old.By.Actor)
		}
		list.Remove(old.ID)
		entries = append(entries, proposalEnded(chain.ProposalWithdrawn, "keyd", old,
			"what it is about has changed, and it was proposed again"))
	}
	if len(*list) >= maxProposals {
		return nil, refuse("%d proposals about %s wait already: approve or withdraw them first (keyd approvals)",
			maxProposals, act.Subject())
	}
	proposed, err := g.add(list, state, act, rules)
	if err != nil {
		return nil, err
	}
	return append(entries, proposed), nil
}

// add makes the act a proposal in the list.
func (g *gate) add(list *record.Proposals, state string, act key.Act, rules key.Approvals) (chain.Entry, error) {
	id, err := g.r.newID()
	if err != nil {
		return chain.Entry{}, err
	}
	now := g.r.now()
	p := key.Proposal{ID: id, Act: act, By: g.by, Since: now, Until: now.Add(rules.Wait)}
	if p.Digest, err = p.Sum(state, rules.Config); err != nil {
		return chain.Entry{}, err
	}
	*list = append(slices.Clone(*list), p)
	g.proposed = &p
	return chain.Entry{Event: chain.Proposed, Actor: g.by.Actor, Fields: map[string]string{
		"proposal": string(p.ID), "act": act.String(), "effects": act.Effects, "reason": act.Reason,
		"login": g.by.Login, "until": p.Until.UTC().Format(time.RFC3339), "digest": p.Digest}}, nil
}

// approve consumes the proposal, if the act is still what was proposed, and the person may approve it.
func (g *gate) approve(
	list *record.Proposals,
	state string,
	act key.Act,
	rules key.Approvals,
) ([]chain.Entry, error) {
	p, waits := list.Find(g.approves)
	switch {
	case !waits:
		return nil, refuse("no proposal %s waits any more: keyd approvals lists those that do", g.approves)
	case p.Over(g.r.now()):
		return nil, refuse("proposal %s ended at %s: ask for the act again", p.ID, words.Moment(p.Until))
	}
	if err := mayApprove(g.by, p, rules); err != nil {
		return nil, err
	}
	again := p
	again.Act = act
	if sum, err := again.Sum(state, rules.Config); err != nil || sum != p.Digest {
		return nil, refuse(
			"%s, the configuration, or what would follow has changed since proposal %s was made: look "+
				"again, then: keyd withdraw %[2]s --reason …, and ask for the act again",
			p.Subject(),
			p.ID,
		)
	}
	list.Remove(p.ID)
	return []chain.Entry{{Event: chain.Approved, Actor: g.by.Actor, Fields: map[string]string{
		"proposal": string(p.ID), "act": act.String(), "reason": g.reason, "login": g.by.Login,
		"asked_by": p.By.Actor, "digest": p.Digest}}}, nil
}

// identified refuses a person of whom keyd cannot tell whether another one is somebody else.
func identified(by key.Person, rules key.Approvals) error {
	switch {
	case by.Actor == "":
		return refuse(
			"this act needs a second operator, and keyd does not know who asks for it: ask over the control " +
				"socket, as an operator",
		)
	case by.UID == rules.Self:
		return refuse(
			"this act needs two operators, and %s is the daemon's own user: ask as one of control.operators",
			by.Actor,
		)
	case by.Login == "":
		return refuse("this act needs two operators, and keyd does not know which person %s is: ask under your own "+
			"user, as one of control.operators", by.Actor)
	}
	return nil
}

// mayApprove refuses whoever may be the one who asked.
func mayApprove(by key.Person, p key.Proposal, rules key.Approvals) error {
	if err := identified(by, rules); err != nil {
		return err
	}
	if rules.People && (by.Unmapped || len(by.Names) == 0) {
		return refuse("%s may ask, and not approve: people in the configuration does not say whose uid and login that "+
			"is on this host", by.Actor)
	}
	if !p.By.Known() {
		return refuse("keyd does not know who asked for proposal %s: an operator who wants it runs keyd reload under "+
			"their own user, and another person then approves it", p.ID)
	}
	if by.MayBe(p.By) {
		return refuse(
			"%s asked for it, so another person must approve it: one with another uid and another login. To "+
				"take it back: keyd withdraw %s --reason …",
			p.By.Actor,
			p.ID,
		)
	}
	return nil
}

// dropOver removes the proposals that have ended without approval.
func dropOver(list *record.Proposals, now time.Time) (entries []chain.Entry) {
	for _, p := range list.Over(now) {
		list.Remove(p.ID)
		entries = append(entries, proposalEnded(chain.ProposalExpired, "keyd", p, "nobody approved it in time"))
	}
	return entries
}

func proposalEnded(event chain.Event, actor string, p key.Proposal, why string) chain.Entry {
	return chain.Entry{Event: event, Actor: actor, Fields: map[string]string{"proposal": string(p.ID),
		"act": p.String(), "asked_by": p.By.Actor, "why": why}}
}
