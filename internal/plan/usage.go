package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/words"
)

// usersPoll is how often keyd looks again at those who use a key while what it saw of them keeps it from disabling a
// version.
const usersPoll = time.Hour

// AsksUsers reports whether there is anything to look at to know who uses the key.
func (in Input) AsksUsers() bool {
	return in.Policy.AsksUsers() || !in.Seen.Usage.At.IsZero()
}

// usersSeenNow reports whether keyd looked at those who use the key in this very step.
func (in Input) usersSeenNow() bool {
	at := in.Seen.Usage.At
	return !at.Before(in.Since) && in.recent(at)
}

// users says who may still need one version. What keyd does not know counts as use.
type users struct {
	Input
	of    Retiring
	vault visible
	log   record.LogSeen
	now   time.Time // by the local clock or by the vault's, whichever is behind
}

// usersForbid says why a version may not be disabled because of those who use the key. It goes by the last look at
// them; Stale asks for another one before keyd disables anything.
//
//   - All consumers must have been seen: those that the configuration names and those that a search found. Whatever
//     cannot be seen or understood counts as using every version.
//   - Each must be on a version of a later generation, and have left this one for as long as its service may still
//     need it. One that is set to another vault of the key may have come from this one: it counts by its times alone.
//   - Where the vault has a workspace, its log must be whole for retire.unused_for, and show no use of the version by
//     anybody but keyd. A call that names no version counts as use of every version.
//   - Some services need that log: those whose documents state no safe time or ask for a quiet log, and those that do
//     not show their version. The latter must besides have used a later version, by an identity that no other consumer
//     has: use by a shared identity does not say whose it was. Quiet needs no such proof: if nobody used the version,
//     then none of those who share the identity did.
//   - Backups count from when the consumer left the version.
func (in Input) usersForbid(r Retiring, v visible) waiting {
	u := users{Input: in, of: r, vault: v, log: in.Seen.Usage.Logs[v.URL], now: in.Now}
	if there := v.seen.Clock(in.Now); there.Before(u.now) {
		u.now = there
	}
	if why := u.unknowable(); why != "" {
		return waiting{why: why}
	}
	if !in.AsksUsers() {
		return waiting{} // an operator said that there is nobody
	}
	for _, ask := range []func() (string, time.Time){u.unseen, u.logForbids, u.consumersForbid} {
		why, until := ask()
		if why == "" {
			continue
		}
		w := waiting{why: why + ": keyd consumers " + in.Policy.Key, until: until}
		if until.IsZero() {
			w.until = later(in.Now, in.Seen.Usage.At.Add(usersPoll))
			w.look = !in.usersSeenNow() && in.older(in.Seen.Usage.At, usersPoll)
		}
		return w
	}
	return waiting{}
}

// unknowable says why the configuration leaves keyd no way to know who uses the version.
func (u users) unknowable() string {
	p := u.Policy
	if p.Retire.NoConsumers || p.Discover || len(p.Consumers) > 0 || p.Workspaces[u.of.Vault] != "" {
		return ""
	}
	return fmt.Sprintf(
		"keyd does not know who uses the key in vault %s: list its consumers in the configuration, or "+
			"write consumers: none if there are none, then: keyd reload",
		u.vault.Name,
	)
}

// unseen says what the last look did not show as a whole.
func (u users) unseen() (why string, until time.Time) {
	seen := u.Seen.Usage
	switch {
	case seen.At.IsZero():
		return "keyd has not looked yet at who uses the key", until
	case seen.Err != nil:
		return fmt.Sprintf("keyd could not look at who uses the key: %v", seen.Err), until
	case len(seen.Unseen) > 0:
		return "the search for consumers did not see everything: " + joined(seen.Unseen), until
	}
	for _, c := range u.Policy.Consumers {
		if !slices.ContainsFunc(seen.Consumers, func(s record.ConsumerSeen) bool { return sameID(s.ID, c.ID) }) {
			return fmt.Sprintf("keyd has not looked yet at consumer %s", c.ID), until
		}
	}
	return "", until
}

// consumersForbid asks each consumer, in the order of their ids.
func (u users) consumersForbid() (why string, until time.Time) {
	list := slices.SortedFunc(slices.Values(u.Seen.Usage.Consumers), func(a, b record.ConsumerSeen) int {
		return cmp.Compare(strings.ToLower(a.ID), strings.ToLower(b.ID))
	})
	for _, c := range list {
		if why, until = u.consumerForbids(c); why != "" {
			return called(c) + " " + why, until
		}
	}
	return "", until
}

// consumerForbids says what one consumer has against it: the rest of a sentence that begins with its name.
func (u users) consumerForbids(c record.ConsumerSeen) (why string, until time.Time) {
	s, understood := service.Of(c.ID)
	switch {
	case c.Err != nil:
		return fmt.Sprintf("cannot be seen: %v", c.Err), until
	case !understood:
		return "is of a type that keyd does not understand (" + service.TypeOf(c.ID) + ")", until
	case slices.ContainsFunc(c.Needs, func(id string) bool { return sameID(id, u.of.Version) }):
		return "still needs the version", until
	case u.onNewKey(c):
		return u.replacedForbids(c, s)
	case !u.ofKey(c) && c.Configured:
		return fmt.Sprintf(
			"is set to key %s in %s, and the configuration names it under key %s: set it to this key, or "+
				"take it out of the configuration",
			c.Key,
			cmp.Or(c.Vault, "an unknown vault"),
			u.Policy.Key,
		), until
	case !u.ofKey(c) && c.Left[u.of.Version].IsZero():
		return "", until // it has nothing to do with the version
	}
	if u.here(c) {
		if why = u.onEarlier(c); why != "" {
			return why, until
		}
		if why = u.needsLog(c, s); why != "" {
			return why, until
		}
	}
	return u.leaves(c, s)
}

// ofKey reports whether a consumer may be set to the key in one of its vaults: what is not known may be so.
func (u users) ofKey(c record.ConsumerSeen) bool {
	_, ours := u.Policy.Vault(c.Vault)
	return (c.Vault == "" || ours) && (c.Key == "" || strings.EqualFold(c.Key, u.Policy.Key))
}

// here reports whether a consumer may be set to the key in the vault of the version.
func (u users) here(c record.ConsumerSeen) bool {
	return u.ofKey(c) && (c.Vault == "" || c.Vault == u.of.Vault)
}

// onEarlier says why a consumer is not known to be on a later version.
func (u users) onEarlier(c record.ConsumerSeen) string {
	switch {
	case c.Asked != "" && !u.isLater(c.Asked):
		return fmt.Sprintf("is set to version %s", c.Asked)
	case c.Uses == "" && !u.logged():
		return fmt.Sprintf("does not show which version it uses, and only the audit log of vault %s could show it: %s",
			u.vault.Name, u.readLog())
	case c.Uses != "" && !u.isLater(c.Uses):
		return fmt.Sprintf("uses version %s", c.Uses)
	}
	return ""
}

// isLater reports whether a version in the vault of the one to disable is of a later generation.
func (u users) isLater(id string) bool {
	at := u.Record.Versions(u.of.Vault)[strings.ToLower(id)]
	return at.Found() && at.Generation.Number > u.of.Generation.Number
}

// leaves says how long a consumer that left the version may still need it.
func (u users) leaves(c record.ConsumerSeen, s service.Service) (why string, until time.Time) {
	return u.leavesAt(c, s, u.left(c))
}

func (u users) leavesAt(c record.ConsumerSeen, s service.Service, left time.Time) (why string, until time.Time) {
	rule, safe := u.Policy.Retire, s.Safe
	if !u.here(c) && (!s.Stated || s.NeedsLog) {
		safe = max(safe, cmp.Or(rule.UnusedFor, unusedFor)) // nobody states a time, and its log may be another one
	}
	switch {
	case left.IsZero():
		return "does not show since when it uses its version", until
	case u.now.Before(left.Add(safe)):
		return fmt.Sprintf("left the version at %s, and may need it for %s after that", date(left),
			words.Exactly(safe)), left.Add(safe)
	case !s.Backups:
		return "", until
	case rule.Backups <= 0:
		return "keeps backups that need the version, and retire.backups is not set: write how long they are kept", until
	case u.now.Before(left.Add(rule.Backups)):
		return fmt.Sprintf("left the version at %s, and its backups may need it for %s after that", date(left),
			words.Exactly(rule.Backups)), left.Add(rule.Backups)
	}
	return "", until
}

// left is when a consumer has left the version at the latest, and not before the version was superseded everywhere, nor
// before the consumer was made again; zero if nobody knows. Of one that does not show its version only a log can say
// it: it left when it first used a later one, or first called the other vault that it is set to, or when anybody last
// used this one.
func (u users) left(c record.ConsumerSeen) time.Time {
	at := c.Left[u.of.Version]
	if at.IsZero() {
		at = u.onLater(c)
	}
	if last, _ := u.lastUse(); c.Uses == "" && u.here(c) {
		at = later(u.usesLater(c), last)
	} else if first := u.callsOther(c); at.IsZero() && !first.IsZero() {
		at = later(first, last)
	}
	if at.IsZero() {
		return at
	}
	return later(later(at, u.of.Since), c.Anew)
}

// onLater is the first time at which a consumer that was never seen on the version is known to have been on a later
// one, or on any in the other vault to which it is set.
func (u users) onLater(c record.ConsumerSeen) time.Time {
	there := u.Record.Versions(c.Vault)
	first := c.Since
	for version, left := range c.Left {
		if u.here(c) && u.isLater(version) || !u.here(c) && there[strings.ToLower(version)].Found() {
			first = sooner(first, left)
		}
	}
	return first
}

// called names a consumer for people: "storage account stcmkdemo".
func called(c record.ConsumerSeen) string {
	s, _ := service.Of(c.ID)
	return cmp.Or(s.Name, c.Service, "consumer") + " " + service.NameOf(c.ID)
}

// sameID compares ids as Azure does, without case.
func sameID(a, b string) bool { return strings.EqualFold(a, b) }
