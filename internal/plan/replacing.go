package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
)

// NewKey is the key that replaces another one, as far as keyd knows it.
type NewKey struct {
	Policy key.Policy
	Record *record.Record
	Seen   *record.Observation // nil: keyd has not looked at it yet
}

// LeavingState is how far a consumer of a replaced key is.
type LeavingState string

// The states.
const (
	LeavingNext   LeavingState = "to move"     // keyd moves it, in its turn
	LeavingByHand LeavingState = "by hand"     // a person must: keyd cannot
	LeavingUnseen LeavingState = "not seen"    // keyd does not know where it is
	LeavingElse   LeavingState = "elsewhere"   // it is set to a third key
	LeavingMoved  LeavingState = "moved"       // it is set to the new key, and that is all that is seen
	LeavingWorks  LeavingState = "works"       // it is seen to use the new key
	leavingNobody LeavingState = "not of ours" // it has nothing to do with this
)

// Leaving is a consumer of a key that is replaced.
type Leaving struct {
	record.ConsumerSeen
	State  LeavingState
	Target key.Vault // where it goes, or is; the zero value: nowhere
	// Version is the newest of the new key in that vault; "": there is none, or nobody saw it.
	Version string
	// Why says what is in the way, or what shows that it uses the new key.
	Why string
}

// Leaving lists the consumers of a key that is replaced, sorted by their ids. It goes by the last look at them.
func (in Input) Leaving() (list []Leaving) {
	if in.Seen == nil || in.Record.Replacement == nil {
		return nil
	}
	for _, c := range in.Seen.Usage.Consumers {
		if l := in.leaving(c); l.State != leavingNobody {
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b Leaving) int {
		return cmp.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID))
	})
	return list
}

func (in Input) leaving(c record.ConsumerSeen) Leaving {
	l := Leaving{ConsumerSeen: c}
	_, ours := in.Policy.Vault(c.Vault)
	switch {
	case c.Err != nil:
		l.State, l.Why = LeavingUnseen, c.Err.Error()
	case in.onNewKey(c):
		l.Target, _ = in.NewKey.Policy.Vault(c.Vault)
		l.State, l.Why = in.worksThere(c)
	case ours && key.SameName(c.Key, in.Policy.Key):
		in.place(&l)
	case c.Configured:
		l.State, l.Why = LeavingElse, fmt.Sprintf("it is set to key %s in %s", c.Key, cmp.Or(c.Vault, "no vault"))
	default:
		l.State = leavingNobody
	}
	l.Version = in.newestOf(l.Target)
	return l
}

// onNewKey reports whether a consumer is set to the key that replaces this one.
func (in Input) onNewKey(c record.ConsumerSeen) bool {
	x := in.Record.Replacement
	if x == nil || in.NewKey == nil || !key.SameName(c.Key, x.With) {
		return false
	}
	_, there := in.NewKey.Policy.Vault(c.Vault)
	return there
}

// place says where a consumer goes that is still set to the old key, and what keeps keyd from moving it.
func (in Input) place(l *Leaving) {
	s, understood := service.Of(l.ID)
	target, why := in.target(l.ConsumerSeen, s)
	l.Target = target
	switch {
	case !understood:
		why = "keyd does not understand resources of this type"
	case why != "":
	case !l.Configured:
		why = fmt.Sprintf("the configuration does not name it: write its id under consumers of %s, then: keyd reload",
			in.Policy.Key)
	default:
		why = in.NewKey.Refusal(s, target)
	}
	if l.State, l.Why = LeavingNext, in.newKeyWaits(target); why != "" {
		l.State, l.Why = LeavingByHand, why
	}
}

// target is the vault to which a consumer goes.
func (in Input) target(c record.ConsumerSeen, s service.Service) (to key.Vault, why string) {
	x := in.Record.Replacement
	if in.NewKey == nil {
		return to, fmt.Sprintf("key %s is not in the configuration", x.With)
	}
	p := in.NewKey.Policy
	own, inOwn := p.Vault(c.Vault)
	switch asked, _ := p.Vault(x.Vault); {
	case s.OneVault && !inOwn:
		return to, fmt.Sprintf("an account of this service stays in its vault, and key %s is not in %s: add that "+
			"vault to its vaults, then: keyd reload; or make a new account", p.Key,
			in.Record.VaultName(in.Policy, c.Vault))
	case s.OneVault:
		return own, ""
	case x.Vault != "":
		return asked, ""
	case inOwn:
		return own, ""
	case len(p.Vaults) == 1:
		return p.Vaults[0], ""
	}
	return to, fmt.Sprintf("key %s is not in vault %s: name the vault with --vault", p.Key,
		in.Record.VaultName(in.Policy, c.Vault))
}

// Refusal says why a service takes the new key in no case, or not in that vault; "": it may.
func (n *NewKey) Refusal(s service.Service, in key.Vault) string {
	p := n.Policy
	switch {
	case !s.Takes(p.Spec):
		return fmt.Sprintf(
			"a resource of this service takes %s only, and key %s is %s",
			specs(s.Specs),
			p.Key,
			p.Spec,
		)
	case s.KeyVault && in.Kind == key.ManagedHSM:
		return "a resource of this service takes no key of a Managed HSM"
	case s.NoExpiry && p.ExpiresAfter > 0:
		return fmt.Sprintf("a resource of this service takes no key with an expiry date: take expires_after out of "+
			"key %s", p.Key)
	}
	return ""
}

func specs(list []key.Spec) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = string(s)
	}
	return strings.Join(texts, " or ")
}

// heir is what the plan of the new key itself would know.
func (in Input) heir() Input {
	n := in.NewKey
	return Input{Now: in.Now, Since: in.Since, Policy: n.Policy, Record: n.Record, Seen: n.Seen}
}

// newestOf is the newest version of the new key in a vault, as it was seen or is recorded; "": nobody knows one.
func (in Input) newestOf(v key.Vault) string {
	if in.NewKey == nil || v.URL == "" {
		return ""
	}
	at := in.NewKey.Record.NewestIn(v.URL)
	if seen := in.NewKey.Seen; seen != nil && at.Found() && at.Generation.Holds(v.URL, seen.Vaults[v.URL].Newest) {
		return seen.Vaults[v.URL].Newest
	}
	if !at.Found() {
		return ""
	}
	return at.Version
}

// newKeyWaits says what keeps the new key from being used in a vault now: it must be made, proven and the newest there.
func (in Input) newKeyWaits(v key.Vault) string {
	n := in.NewKey
	switch {
	case n == nil:
		return "the new key is not in the configuration"
	case n.Record.Hold != nil:
		return fmt.Sprintf("key %s is held: %s", n.Policy.Key, n.Record.Hold.Reason)
	case n.Record.Replacement != nil:
		return fmt.Sprintf("key %s is replaced itself", n.Policy.Key)
	case n.Record.Stage(n.Policy).Phase != record.Finished:
		return fmt.Sprintf("key %s is not active in every vault yet: keyd status %[1]s", n.Policy.Key)
	case n.Seen == nil:
		return fmt.Sprintf("keyd has not looked at key %s yet", n.Policy.Key)
	case v.URL == "":
		return ""
	}
	heir := in.heir()
	seen := heir.shown(v)
	if seen.Err != nil {
		return fmt.Sprintf("vault %s cannot be seen: %v", v.Name, seen.Err)
	}
	why, _ := heir.forbidsIn(Retiring{}, visible{v, seen})
	return why
}

// replacing moves the consumers of a replaced key to the new one.
func replacing(in Input) (Step, bool) {
	x := in.Record.Replacement
	if x == nil || x.Disabling() || in.Record.Repointing != nil && !in.Record.Repointing.Open() {
		return Step{}, false
	}
	if since := later(x.At, in.Record.LastRepoint); !in.Seen.Usage.At.After(since) {
		return in.awaitUsers(fmt.Sprintf("keyd looks at those who use the key, to set them to %s", x.With)), true
	}
	if err := in.Seen.Usage.Err; err != nil {
		return in.awaitUsers(fmt.Sprintf("keyd could not look at those who use the key: %v", err)), true
	}
	var waits string
	for _, l := range in.Leaving() {
		switch {
		case l.State != LeavingNext:
		case l.Why == "":
			return in.move(l), true
		case waits == "":
			waits = called(l.ConsumerSeen) + " waits: " + l.Why
		}
	}
	_, _, next := Due(in) // the key still rotates meanwhile
	if waits != "" {
		return Step{
			Kind:  Idle,
			Until: sooner(in.Now.Add(repointPoll), next),
			Why: "the consumers are to be set to " + x.With + "; " +
				waits,
		}, true
	}
	return Step{Kind: Idle, Until: next,
		Why: fmt.Sprintf("keyd has set to %s whom it can: keyd replace %s --status", x.With, in.Policy.Key)}, true
}

func (in Input) move(l Leaving) Step {
	return Step{Kind: Repoint, Vault: l.Vault, Version: l.Version, Consumer: l.ID, From: l.Asked,
		NewKey: in.NewKey.Policy.Key, NewVault: l.Target.URL,
		Why: fmt.Sprintf("%s replaces the key, as %s asked", in.NewKey.Policy.Key, in.Record.Replacement.By)}
}

// staleForNewKey: see Stale.
func (in Input) staleForNewKey(url string, p *Parts) {
	if in.NewKey == nil {
		return
	}
	seen := record.VaultSeen{}
	if in.NewKey.Seen != nil {
		seen = in.NewKey.Seen.Vaults[url]
	}
	if !in.heir().provenNow(seen) || seen.Proof.At.Before(in.Since) {
		p.NewKey = append(p.NewKey, url)
	}
}
