package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// unusedFor is how long a log must show no use of a version, where the retire rule does not say.
	unusedFor = 30 * 24 * time.Hour
	// logLate is how long ago the part of a vault's log that keyd saw whole may end: Azure writes it some minutes
	// late, and keyd's own calls, by which it knows that the log is whole, have pauses between them.
	logLate = 3 * time.Hour
)

// logged reports whether keyd reads the audit log of the version's vault.
func (u users) logged() bool { return u.Policy.Workspaces[u.of.Vault] != "" }

// readLog is what has keyd read the log of the version's vault, or why nothing does.
func (u users) readLog() string {
	if u.vault.Kind == key.ManagedHSM {
		return "keyd reads no log of a Managed HSM, so it disables no version there while this consumer uses the key"
	}
	return "write evidence: {workspace: ID} under the vault"
}

// logForbids says what the audit log of the version's vault has against it.
func (u users) logForbids() (why string, until time.Time) {
	if !u.logged() {
		return "", until
	}
	quiet, why := u.quiet()
	if why != "" {
		return why, until
	}
	_, read := u.Seen.Usage.Logs[u.of.Vault]
	name, log := u.vault.Name, u.log
	switch {
	case !read:
		return fmt.Sprintf("keyd has not read the audit log of vault %s yet", name), until
	case log.Err != nil:
		return fmt.Sprintf("keyd does not trust the audit log of vault %s: %v", name, log.Err), until
	case log.From.IsZero() || u.now.Sub(log.Until) > logLate:
		return fmt.Sprintf("the audit log of vault %s is whole only until %s", name, date(log.Until)), until
	}
	if at, by := u.lastUse(); !at.IsZero() && log.Until.Before(at.Add(quiet)) {
		return fmt.Sprintf(
				"the audit log of vault %s shows a use of the version, or one without a version, by %s at %s, and "+
					"the version must be unused for %s",
				name,
				by,
				date(at),
				words.Exactly(quiet),
			), u.whenLogged(
				at.Add(quiet),
			)
	}
	if log.Until.Before(log.From.Add(quiet)) {
		return fmt.Sprintf(
				"the audit log of vault %s is whole only since %s, and the version must be unused for %s",
				name,
				date(log.From),
				words.Exactly(quiet),
			), u.whenLogged(
				log.From.Add(quiet),
			)
	}
	return "", until
}

// whenLogged is when keyd will have seen the log until a time, if all goes well. It looks again then.
func (u users) whenLogged(at time.Time) time.Time {
	if at = at.Add(u.now.Sub(u.log.Until)); at.After(u.Seen.Usage.At.Add(usersPoll)) {
		return at
	}
	return time.Time{} // soon: the next look will show
}

// quiet is for how long the log must show no use of the version. Where keyd knows of no consumers but by the log, some
// of them may keep backups: then nobody knows when those left the version, but by the log.
func (u users) quiet() (quiet time.Duration, why string) {
	rule := u.Policy.Retire
	quiet = cmp.Or(rule.UnusedFor, unusedFor)
	if rule.NoConsumers || u.Policy.Discover || len(u.Policy.Consumers) > 0 {
		return quiet, ""
	}
	if rule.Backups <= 0 {
		return 0, "keyd knows of no consumers, so some may keep backups that need the version, and retire.backups is " +
			"not set: list the consumers, or write how long their backups are kept"
	}
	return max(quiet, rule.Backups), ""
}

// lastUse is the last use of the version by anybody but keyd, and who it was.
func (u users) lastUse() (last time.Time, by string) {
	for _, version := range slices.Sorted(maps.Keys(u.log.Uses)) {
		if version != "" && !sameID(version, u.of.Version) {
			continue
		}
		for _, caller := range slices.Sorted(maps.Keys(u.log.Uses[version])) {
			if at := u.log.Uses[version][caller]; at.After(last) {
				last, by = at, cmp.Or(caller, "an unnamed caller")
			}
		}
	}
	return last, by
}

// needsLog says why the log does not show that a consumer has left the version, where nothing else can show it. That
// the log is quiet, logForbids has found out already.
func (u users) needsLog(c record.ConsumerSeen, s service.Service) string {
	switch {
	case c.Uses != "" && s.Stated && !s.NeedsLog:
		return ""
	case !u.logged():
		return fmt.Sprintf("may need an old version for longer than its documents say, and only the audit log of "+
			"vault %s shows when it does not: %s", u.vault.Name, u.readLog())
	case c.Uses != "":
		return "" // it shows a later version, and the log is quiet
	}
	if !u.usesLater(c).IsZero() {
		return ""
	}
	return "does not show which version it uses, and the audit log shows no use of a later one by an identity of its " +
		"own"
}

// shared reports whether another consumer calls the vault with the same identity, or the same one for another purpose,
// such as its geo-redundant backups.
func (u users) shared(c record.ConsumerSeen, caller string) bool {
	return slices.ContainsFunc(u.Seen.Usage.Consumers, func(other record.ConsumerSeen) bool {
		differs := !sameID(other.ID, c.ID) || other.Vault == c.Vault && other.Service != c.Service
		return differs && slices.ContainsFunc(other.Callers, func(id string) bool {
			return sameID(id, caller)
		})
	})
}

// alone lists the identities of a consumer that no other one has.
func (u users) alone(c record.ConsumerSeen) []string {
	return slices.DeleteFunc(slices.Clone(c.Callers), func(caller string) bool { return u.shared(c, caller) })
}

// usesLater is when a consumer first used a version of a later generation by an identity of its own, after the version
// was superseded and after the consumer was made again; zero: the log shows no such use.
func (u users) usesLater(c record.ConsumerSeen) time.Time {
	return u.firstUse(c, u.log, func(version string, worked record.Span) bool {
		return version != "" && u.isLater(version) && worked.Last.After(u.of.Since)
	})
}

// callsOther is when a consumer first called the other vault that it is set to, by an identity of its own; zero: the
// log of that vault does not show it.
func (u users) callsOther(c record.ConsumerSeen) time.Time {
	log := u.Seen.Usage.Logs[c.Vault]
	if log.Err != nil {
		return time.Time{}
	}
	return u.firstUse(c, log, func(string, record.Span) bool { return true })
}

// firstUse is the first of those uses in a log that a consumer made by an identity of its own and that count. A use
// that the vault refused proves nothing: whoever is refused the new version goes on with the old one.
func (u users) firstUse(c record.ConsumerSeen, log record.LogSeen, counts func(string, record.Span) bool) time.Time {
	var first time.Time
	alone := u.alone(c)
	own := func(caller string) bool {
		return slices.ContainsFunc(alone, func(id string) bool { return sameID(id, caller) })
	}
	for version, callers := range log.Worked {
		for caller, worked := range callers {
			if !counts(version, worked) || !worked.Last.After(c.Anew) || !own(caller) {
				continue
			}
			at := worked.Last
			if worked.First.After(c.Anew) {
				at = worked.First
			}
			first = sooner(first, at)
		}
	}
	return first
}
