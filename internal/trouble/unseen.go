package trouble

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// PartialLook stands, in metrics, for a look that failed as a whole and for a search that did not see everything.
const PartialLook key.Reason = "Search"

// wholeLook stands for a look that failed before it asked about any consumer.
const wholeLook key.Reason = "look"

// blind is a reason for which keyd does not see consumers. Where nothing is known of the reason, it belongs to one key.
type blind struct {
	reason key.Reason
	key    string
}

// blindness is what keyd does not see of consumers: one problem for each reason.
type blindness struct {
	groups map[blind]*unseenGroup
	order  []*unseenGroup
}

// unseenGroup is consumers that cannot be seen for one reason.
type unseenGroup struct {
	first   string
	keys    map[string]bool
	n       int
	problem *problem
}

// notSeen counts what keyd does not see in the problem of its reason, which the first one makes. When keyd gets no
// token, that is the cause.
func (f *finder) notSeen(why blind, text string) {
	name := why.key
	if why.reason == key.NoToken && f.causes.signIn != nil {
		f.causes.signIn.unseen++
		f.causes.signIn.concerns(name)
		return
	}
	if why.reason != key.OtherReason {
		why.key = ""
	}
	g := f.blind.groups[why]
	if g == nil {
		g = &unseenGroup{
			first: text, keys: map[string]bool{}, problem: f.add(ConsumersUnseen, about{key: name}, ""),
		}
		f.blind.groups[why], f.blind.order = g, append(f.blind.order, g)
	}
	g.n++
	g.keys[name] = true
	g.problem.concerns(name)
}

// describe says what each group has in common, once all are counted.
func (b blindness) describe() {
	for _, g := range b.order {
		p, first := g.problem, words.OneLine(g.first)
		if len(g.keys) > 1 {
			p.Key = ""
			p.Remedy = strings.ReplaceAll(Of(ConsumersUnseen).Remedy, "{consumers}", "keyd consumers KEY")
		}
		switch {
		case g.n == 1:
			p.Text = p.Key + ": keyd cannot see " + first
		case len(g.keys) == 1:
			p.Text = fmt.Sprintf("%s: keyd cannot see %s: %s", p.Key, words.Count(g.n, "consumer"), first)
		default:
			p.Text = fmt.Sprintf("keyd cannot see %s of %s, for one reason: %s", words.Count(g.n, "consumer"),
				words.Count(len(g.keys), "key"), first)
		}
	}
}

// partial finds a look that failed as a whole, a search that did not see everything, and looks that do not come.
func (f *finder) partial(k status.Key) {
	c := k.Consumers
	since := latest(c.At, f.started)
	if c.Asked() && f.late(ConsumersNotLooked, since) {
		f.notLooked(k.Name, "keyd has not looked at the consumers of "+k.Name+" since "+words.Moment(since)+
			", and should every hour")
	}
	if !f.late(ConsumersUnseen, c.PartialSince) {
		return
	}
	if c.Error != "" {
		f.notSeen(blind{wholeLook, k.Name}, "any consumer of "+k.Name+": "+c.Error)
	}
	if f.unreachable() {
		return
	}
	for _, text := range c.Unseen {
		f.notSeen(blind{key.Reason(text), k.Name}, "whether others use the keys: "+text)
	}
}

// unreachable reports whether Resource Manager itself cannot be used. A search then fails for the same reason.
func (f *finder) unreachable() bool {
	whole := []key.Reason{
		key.NoAnswer, key.ProxyRefused, key.NoToken, key.Unauthorized, key.Throttled, key.ServiceError, wholeLook,
	}
	for why := range f.blind.groups {
		if slices.Contains(whole, why.reason) {
			return true
		}
	}
	return f.causes.signIn != nil
}

// notLooked finds looks that do not come. One problem tells of all keys.
func (f *finder) notLooked(name, text string) {
	i := slices.IndexFunc(f.found, func(p *problem) bool { return p.cause == ConsumersNotLooked })
	if i < 0 {
		f.add(ConsumersNotLooked, about{}, text).concerns(name)
		return
	}
	f.found[i].delays(name)
}
