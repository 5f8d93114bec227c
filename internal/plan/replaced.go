package plan

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/words"
)

// ReplaceRule is the rule by which the versions of a replaced key are disabled: the evidence of its retire rule,
// whether or not that disables anything itself. The digest of what keyd looks at is always in it.
func ReplaceRule(p key.Policy) key.RetireRule {
	rule := p.Retire
	if rule.Watched != "" {
		return rule
	}
	var all []string
	for _, c := range p.Consumers {
		all = append(all, "consumer "+strings.ToLower(c.ID))
	}
	for url, workspace := range p.Workspaces {
		all = append(all, "workspace "+workspace+" of "+url)
	}
	slices.Sort(all)
	rule.Watched = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.Join(all, "\n"))))
	return rule
}

// replaced disables what is left of a replaced key, once an operator has consented to that.
func replaced(in Input) (Step, bool) {
	x := in.Record.Replacement
	if !x.Disabling() {
		return Step{}, false
	}
	if !x.Done.IsZero() {
		return Step{
			Kind: Idle,
			Why: fmt.Sprintf("%s has replaced the key, and its versions are disabled: take it out of "+
				"the configuration when you like", x.With),
		}, true
	}
	if s, ok := openDisabling(in); ok {
		return s, true
	}
	list := in.Record.Replaceable()
	if len(list) == 0 {
		return Step{Kind: ReplaceDone, Why: "every version of the key is disabled"}, true
	}
	r, waits := in.replaceable(list)
	s := Step{Kind: Disable, Generation: r.Generation.Number, Vault: r.Vault, Attempt: r.Attempt, Version: r.Version,
		Why: fmt.Sprintf("%s has replaced the key, as %s asked", x.With, x.By)}
	if waits.why != "" {
		s = Step{Kind: Idle, Generation: r.Generation.Number, Vault: r.Vault, Version: r.Version, Until: waits.until,
			AsksUsers: waits.look,
			Why: fmt.Sprintf(
				"version %s of the replaced key is to be disabled, and waits: %s",
				r.Version,
				waits.why,
			)}
	}
	return s, true
}

// ReplacedWaits says what the next disabling of a replaced key waits for; "" if nothing is to be disabled, or nothing
// forbids it.
func ReplacedWaits(in Input) string {
	list := in.Record.Replaceable()
	if !in.Record.Replacement.Disabling() || in.Seen == nil || len(list) == 0 {
		return ""
	}
	_, waits := in.replaceable(list)
	return waits.why
}

// replaceable is the version of a replaced key that keyd disables next, and what that still waits for. What was begun
// goes on before another begins.
func (in Input) replaceable(list []record.Retirable) (record.Retirable, waiting) {
	first := list[0]
	if open := in.Record.OpenDisabling(); open.Found() {
		list = slices.DeleteFunc(list, func(r record.Retirable) bool {
			return r.Attempt != open.Attempt || !slices.Contains(open.BeingDisabled(), r.Version) ||
				!near(in.Now, in.Record.LastDisabling.Here, disablingTries)
		})
		if len(list) == 0 {
			return first, waiting{why: fmt.Sprintf("keyd does not know yet whether vault %s disabled version %s",
				open.VaultName, open.Disables), until: in.Now.Add(pollWait)}
		}
	}
	oldest := list[0].Generation.Number
	list = slices.DeleteFunc(list, func(r record.Retirable) bool { return r.Generation.Number > oldest })
	slices.SortStableFunc(list, func(a, b record.Retirable) int { return a.DisableBegun.Compare(b.DisableBegun) })
	waits := in.forbidsReplaced()
	if waits.why != "" {
		return list[0], waits
	}
	for i, r := range list {
		w := in.forbidsOld(r)
		if w.why == "" {
			return r, w
		}
		if i == 0 {
			waits = w
		}
	}
	return list[0], waits
}

// forbidsReplaced says what keeps keyd from disabling any version of a replaced key.
func (in Input) forbidsReplaced() (w waiting) {
	if why, at := in.pause(); why != "" {
		return waiting{why: why, until: at}
	}
	if err := in.Seen.HSM.Err; err != nil {
		return waiting{why: fmt.Sprintf("the HSM cannot be used: %v", err)}
	}
	for _, url := range in.newVaults() {
		v, _ := in.NewKey.Policy.Vault(url)
		if why := in.newKeyWaits(v); why != "" {
			return waiting{why: why}
		}
	}
	if in.NewKey == nil {
		return waiting{why: in.newKeyWaits(key.Vault{})}
	}
	for _, l := range in.Leaving() {
		if l.State == LeavingWorks || l.State == LeavingElse { // those elsewhere are asked for each version
			continue
		}
		return in.askAgain(fmt.Sprintf("%s is not seen to work under %s: %s", called(l.ConsumerSeen),
			in.Record.Replacement.With, cmp.Or(l.Why, string(l.State))))
	}
	return w
}

// askAgain waits for what another look at those who use the key may show.
func (in Input) askAgain(why string) waiting {
	return waiting{why: why + ": keyd replace " + in.Policy.Key + " --status",
		until: later(in.Now, in.Seen.Usage.At.Add(usersPoll)),
		look:  !in.usersSeenNow() && in.older(in.Seen.Usage.At, usersPoll)}
}

// forbidsOld says what keeps keyd from disabling one version of a replaced key.
func (in Input) forbidsOld(r record.Retirable) waiting {
	vault, ours := in.Policy.Vault(r.Vault)
	v := visible{vault, in.shown(vault)}
	switch {
	case !slices.Contains(in.Record.Replacement.Consent.Versions, r.Version):
		return waiting{why: "the consent does not list the version: keyd replace " + in.Policy.Key + " --disable"}
	case !ours:
		return waiting{why: fmt.Sprintf("vault %s is not in the configuration any more", r.VaultName)}
	case v.seen.Err != nil:
		return waiting{why: fmt.Sprintf("vault %s: %v", v.Name, v.seen.Err)}
	case !v.seen.SkewSeen || v.seen.Skew.Abs() > key.MaxSkew:
		return waiting{why: fmt.Sprintf("the clock of vault %s is not known, or differs from the local one by more "+
			"than %s", v.Name, key.MaxSkew)}
	}
	return in.usersForbid(Retiring{Retirable: r}, v)
}

// newVaults are the vaults (URLs) in which consumers use the new key, or may: sorted.
func (in Input) newVaults() (urls []string) {
	if in.NewKey == nil {
		return nil
	}
	for _, c := range in.Seen.Usage.Consumers {
		if in.onNewKey(c) && !slices.Contains(urls, c.Vault) {
			urls = append(urls, c.Vault)
		}
	}
	slices.Sort(urls)
	return urls
}

// worksThere says whether a consumer that is set to the new key is seen to use it, and what shows that.
//
//   - Azure must show that it uses a version of the new key that keyd placed, where the service shows its version.
//   - Where keyd reads the audit log of that vault, the log must have a call with the key that succeeded, since the
//     replacement began, by an identity of the consumer alone. An identity that others share shows nothing of one; then
//     what Azure shows must do.
//   - A service that does not show its version needs that log.
func (in Input) worksThere(c record.ConsumerSeen) (LeavingState, string) {
	s, _ := service.Of(c.ID)
	v, _ := in.NewKey.Policy.Vault(c.Vault)
	shows := "Azure shows that it is set to the key"
	switch placed := in.NewKey.Record.Versions(c.Vault)[strings.ToLower(c.Uses)]; {
	case c.Uses == "" && s.ShowsInUse:
		return LeavingMoved, "Azure does not show yet which version it uses"
	case c.Uses != "" && !placed.Found():
		return LeavingMoved, fmt.Sprintf("it uses version %s, which keyd did not place", c.Uses)
	case c.Uses != "":
		shows = fmt.Sprintf("Azure shows that it uses version %s", c.Uses)
	}
	logged, alone, at := in.worked(c)
	switch {
	case !at.IsZero():
		return LeavingWorks, fmt.Sprintf(
			"%s, and the audit log of vault %s that it wrapped or unwrapped with the key "+
				"at %s",
			shows,
			v.Name,
			words.Moment(at),
		)
	case logged && alone:
		return LeavingMoved, fmt.Sprintf("%s; the audit log of vault %s shows no call of its own with the key yet",
			shows, v.Name)
	case c.Uses == "":
		return LeavingMoved, fmt.Sprintf(
			"%s; it does not show which version it uses, and only a call by an identity "+
				"of its own in the audit log of vault %s could show that",
			shows,
			v.Name,
		)
	case logged:
		return LeavingWorks, shows + "; the log shows nothing of it alone, because others share its identity"
	}
	return LeavingWorks, fmt.Sprintf(
		"%s; keyd reads no audit log of vault %s, so nothing else shows it",
		shows,
		v.Name,
	)
}

// worked is when a consumer last made a call with the new key that succeeded, as the log of that vault has it, by an
// identity of its own and since the replacement began. logged: keyd reads that log; alone: it has such an identity.
func (in Input) worked(c record.ConsumerSeen) (logged, alone bool, last time.Time) {
	n := in.NewKey
	if n.Policy.Workspaces[c.Vault] == "" {
		return false, false, last
	}
	own := users{Input: in}.alone(c)
	if n.Seen != nil { // the new key may have consumers of its own
		there := in.heir()
		own = slices.DeleteFunc(own, func(caller string) bool { return users{Input: there}.shared(c, caller) })
	}
	if n.Seen == nil || len(own) == 0 {
		return true, len(own) > 0, last
	}
	for version, callers := range n.Seen.Usage.Logs[c.Vault].Worked {
		if at := n.Record.Versions(c.Vault)[version]; !at.Found() && version != "" {
			continue
		}
		for caller, worked := range callers {
			if at := worked.Last; slices.ContainsFunc(own, func(id string) bool { return sameID(id, caller) }) &&
				at.After(in.Record.Replacement.At) && at.After(last) {
				last = at
			}
		}
	}
	return true, true, last
}

// replacedForbids says what a consumer that is on the new key has against disabling a version of the old one: it must
// be seen to work there, and have left for as long as its service may still need the old key.
func (u users) replacedForbids(c record.ConsumerSeen, s service.Service) (why string, until time.Time) {
	if state, why := u.worksThere(c); state != LeavingWorks {
		return fmt.Sprintf("is not seen to work under %s: %s", u.Record.Replacement.With, why), until
	}
	left := c.Since
	if m, ok := u.Record.Replacement.Took(c.ID, c.Vault); ok && m.Seen.After(left) {
		left = m.Seen
	}
	if left.IsZero() {
		_, _, left = u.worked(c)
	}
	if !left.IsZero() {
		left = later(left, u.of.Since)
	}
	return u.leavesAt(c, s, left)
}

// ReplacedQuiet says what speaks against disabling the versions of a replaced key now, but for the consent; "":
// nothing.
func ReplacedQuiet(in Input) string {
	if in.Seen == nil || in.Record.Replacement == nil {
		return "keyd has not looked at the key yet"
	}
	for _, r := range in.Record.Replaceable() {
		vault, _ := in.Policy.Vault(r.Vault)
		if w := in.usersForbid(Retiring{Retirable: r}, visible{vault, in.shown(vault)}); w.why != "" {
			return w.why
		}
	}
	return ""
}

// NewKeyWaits says what keeps the new key from being used where consumers go or are; "": nothing.
func (in Input) NewKeyWaits() string {
	for _, l := range in.Leaving() {
		if l.Target.URL == "" {
			continue
		}
		if why := in.newKeyWaits(l.Target); why != "" {
			return why
		}
	}
	return in.newKeyWaits(key.Vault{})
}
