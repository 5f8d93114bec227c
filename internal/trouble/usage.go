package trouble

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// obstacle is one thing that keeps a consumer from being well. Where it is a problem, it has a cause.
type obstacle struct {
	cause Cause // "": it is no problem
	text  string
}

// obstacles says what is in a consumer's way now. names has the vaults' names by URL.
func obstacles(now time.Time, c status.Consumer, names map[string]string) (all []obstacle) {
	add := func(cause Cause, format string, args ...any) {
		all = append(all, obstacle{cause, fmt.Sprintf(format, args...)})
	}
	switch {
	case c.Error != "" && !c.Understood:
		add("", "%s", words.OneLine(c.Error))
	case c.Error != "":
		add(ConsumersUnseen, "cannot be seen: %s", words.OneLine(c.Error))
	}
	switch {
	case c.Left != "":
		add("", "%s", words.OneLine(c.Left))
	case !c.Configured:
		cause := ConsumersNotConfigured
		if !c.Understood {
			cause = "" // the configuration cannot name it
		}
		add(cause, "is not in the configuration")
	}
	if c.OtherKey && c.Replaced {
		return append(all, needing(c)...)
	}
	if c.OtherKey && c.Key == "" {
		add(ConsumerOtherKey, "is set to the service's own key, not to this one")
	} else if c.OtherKey {
		add(ConsumerOtherKey, "is set to key %s in %s, not to this key", c.Key,
			cmp.Or(names[c.Vault], c.Vault, "an unknown vault"))
	}
	return append(append(all, ofVersion(now, c)...), needing(c)...)
}

// needing says which other versions a consumer still needs.
func needing(c status.Consumer) []obstacle {
	if len(c.Needs) == 0 {
		return nil
	}
	return []obstacle{{"", "still needs version " + strings.Join(c.Needs, ", ")}}
}

// ofVersion says what is wrong with the version that a consumer uses. What is bad about a version is worse than that it
// is old.
func ofVersion(now time.Time, c status.Consumer) (all []obstacle) {
	version := versionWords(c)
	late := !c.Due.IsZero() && now.After(c.Due)
	if c.Disabled {
		all = append(all, obstacle{ConsumerOnDisabled, "uses " + version + ", which is disabled"})
	}
	if c.Compromised && late {
		all = append(all, obstacle{ConsumerOnCompromised, "uses " + version + ", whose material is compromised"})
	}
	if ends := c.Expires; !ends.IsZero() && ends.Sub(now) < Of(VersionExpiresSoon).Threshold {
		text := "uses " + version + ", which expires at " + words.Moment(ends)
		all = append(all, obstacle{ConsumerOnExpiring, text})
	}
	switch {
	case len(all) > 0 || !late:
	case c.Moves == status.MovedByHand:
		all = append(all, obstacle{ConsumerPinned, "uses " + version + newer(c) +
			"; it does not follow by itself, so somebody must move it"})
	case c.Moves == status.MovedByKeyd:
		all = append(all, obstacle{ConsumerLags, "uses " + version + newer(c) + ", and keyd has not moved it yet"})
	default:
		all = append(all, obstacle{ConsumerLags, "uses " + version + newer(c) + ", and should have followed by " +
			words.Moment(c.Due)})
	}
	return all
}

// BadVersion names what is bad about the version that a consumer uses: the values of a metric's label.
func BadVersion(now time.Time, c status.Consumer) (kinds []string) {
	for _, o := range ofVersion(now, c) {
		if kind := badKinds[o.cause]; kind != "" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

var badKinds = map[Cause]string{
	ConsumerOnDisabled: "disabled", ConsumerOnCompromised: "compromised", ConsumerOnExpiring: "expiring",
}

// versionWords names the version that a consumer uses.
func versionWords(c status.Consumer) string {
	if c.Generation == 0 {
		return "version " + c.Uses + ", which keyd does not know,"
	}
	return fmt.Sprintf("generation %d", c.Generation)
}

func newer(c status.Consumer) string {
	if c.NewestGeneration == 0 {
		return ", which is not the newest"
	}
	return fmt.Sprintf(", not %d", c.NewestGeneration)
}

// Explain says in words what is in the way of each consumer now.
func Explain(now time.Time, c *status.Consumers, names map[string]string) *status.Consumers {
	if c == nil {
		return nil
	}
	out := *c
	out.List = slices.Clone(c.List)
	for i := range out.List {
		out.List[i].InTheWay = nil
		for _, o := range obstacles(now, out.List[i], names) {
			out.List[i].InTheWay = append(out.List[i].InTheWay, o.text)
		}
	}
	return &out
}

// consumers finds what is wrong with those who use the keys.
func (f *finder) consumers(keys []status.Key) {
	f.blind = blindness{groups: map[blind]*unseenGroup{}}
	logs := map[string]*problem{}
	for _, k := range keys {
		if k.Consumers == nil {
			continue
		}
		for _, c := range k.Consumers.List {
			for _, o := range obstacles(f.at, c, f.vaults) {
				f.obstacle(k, c, o)
			}
			if c.Error != "" && c.Understood && f.late(ConsumersUnseen, c.UnseenSince) {
				f.notSeen(blind{c.Reason, k.Name}, c.Service+" "+c.Name+": "+c.Error)
			}
		}
		f.partial(k)
		f.notConfigured(k)
		f.logs(k, logs)
	}
	f.blind.describe()
}

// obstacle adds what is a problem of one consumer.
func (f *finder) obstacle(k status.Key, c status.Consumer, o obstacle) {
	here := about{key: k.Name, vault: f.vaults[c.Vault], version: c.Uses}
	text := fmt.Sprintf("%s: %s %s %s", k.Name, c.Service, c.Name, o.text)
	if here.vault != "" {
		text += " (vault " + here.vault + ")"
	}
	switch o.cause {
	case ConsumerLags, ConsumerPinned:
		if f.late(o.cause, c.Due) {
			f.add(o.cause, here, text)
		}
	case ConsumerOnDisabled, ConsumerOnExpiring:
		if found := f.ofVersionUsed(k.Name, c, o.cause); found != nil {
			found.users++
			return
		}
		f.causes.keys[place{k.Name, c.Vault, o.cause}] = f.add(o.cause, here, text)
	case ConsumerOnCompromised, ConsumerOtherKey:
		f.add(o.cause, here, text)
	}
}

// ofVersionUsed is the problem of the version that a consumer uses; nil: there is none.
func (f *finder) ofVersionUsed(name string, c status.Consumer, cause Cause) *problem {
	of := []Cause{Drift(plan.DriftNewestDisabled), Drift(plan.DriftDisabled)}
	if cause == ConsumerOnExpiring {
		if !c.Newest {
			return nil
		}
		of = []Cause{VersionExpiresSoon, Drift(plan.DriftExpiring)}
	}
	for _, cause := range of {
		if found := f.causes.keys[place{name, c.Vault, cause}]; found != nil {
			return found
		}
	}
	return nil
}

// lacks reports whether the configuration lacks a consumer that it could name.
func lacks(c status.Consumer) bool { return !c.Configured && c.Understood && c.Left == "" }

// notConfigured finds consumers that the configuration lacks: one problem for a key.
func (f *finder) notConfigured(k status.Key) {
	var names []string
	for _, c := range k.Consumers.List {
		if lacks(c) {
			names = append(names, c.Service+" "+c.Name)
		}
	}
	const most = 3
	if n := len(names); n > most {
		names = append(names[:most], fmt.Sprintf("%d more", n-most))
	}
	if len(names) > 0 {
		f.add(ConsumersNotConfigured, about{key: k.Name}, fmt.Sprintf(
			"%s has consumers that the configuration lacks: %s", k.Name, strings.Join(names, ", ")))
	}
}

// logs finds an audit log that keyd does not see, once for its workspace, and uses of versions that are retired.
func (f *finder) logs(k status.Key, found map[string]*problem) {
	for _, l := range k.Consumers.Logs {
		if f.late(UseLogUnseen, latest(l.Until, f.started)) {
			f.logUnseen(k.Name, l, found)
		}
		r, name := l.Retired, f.vaults[l.Vault]
		if r == nil || f.at.Sub(r.At) > Of(RetiredVersionUsed).Threshold ||
			f.causes.keys[place{k.Name, l.Vault, ConsumerOnDisabled}] != nil {
			continue
		}
		who := cmp.Or(r.Caller, "a caller that the log does not name")
		f.add(RetiredVersionUsed, about{key: k.Name, vault: name, version: r.Version}, fmt.Sprintf(
			"%s: at %s %s asked vault %s to use generation %d, which is disabled, and was refused", k.Name,
			words.Moment(r.At), who, name, r.Generation))
	}
}

func (f *finder) logUnseen(name string, l status.UsedLog, found map[string]*problem) {
	// A vault that does not answer has no calls of keyd's in its log.
	if p := cmp.Or(found[l.Workspace], f.causes.vaults[l.Vault], f.causes.signIn); p != nil {
		p.concerns(name)
		return
	}
	text := cmp.Or(l.Error, "the log of the vault "+f.vaults[l.Vault]+" is whole only until "+words.Moment(l.Until))
	p := f.add(UseLogUnseen, about{vault: f.vaults[l.Vault]}, "keyd does not see who uses keys: "+words.OneLine(text))
	p.concerns(name)
	found[l.Workspace] = p
}

// latest is the later of two times.
func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
