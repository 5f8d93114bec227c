package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// maxUsersShown bounds the consumers in the table of a key's page, and maxUsersNamed those in one of its cells.
	maxUsersShown = 100
	maxUsersNamed = 6
)

// usersView is the consumers of a key, on its page.
type usersView struct {
	Sentence string
	Rows     []userRow
	More     int // consumers that are not shown
	Notes    []string
}

// userRow is one consumer.
type userRow struct {
	Service, Name, ID, Uses, Note, Log string
	InTheWay                           []string
}

// viewConsumers is what is known of who uses a key; nil where there is nobody to ask.
func viewConsumers(now time.Time, c *status.Consumers, vaults map[string]string) *usersView {
	if c == nil {
		return nil
	}
	v := &usersView{Sentence: usersSentence(now, *c)}
	for _, x := range status.Worst(c.List) {
		if len(v.Rows) == maxUsersShown {
			v.More = len(c.List) - maxUsersShown
			break
		}
		v.Rows = append(v.Rows, viewUser(now, x, vaults))
	}
	for _, m := range c.Moves {
		text := "Consumer " + m.Words() + "."
		if m.Command != "" {
			text += " Mend the cause, then: " + m.Command
		}
		v.Notes = append(v.Notes, text)
	}
	for _, text := range c.Unseen {
		v.Notes = append(v.Notes, "Not searched: "+text)
	}
	for _, l := range c.Logs {
		v.Notes = append(v.Notes, logWords(now, l, vaults)...)
	}
	return v
}

// usersSentence is what is known of who uses a key, in one sentence.
func usersSentence(now time.Time, c status.Consumers) string {
	switch {
	case c.None && len(c.List) == 0:
		return "The configuration says that nothing in Azure encrypts under this key."
	case c.Error != "":
		return "keyd does not see who uses this key: " + c.Error
	case c.At.IsZero():
		return "keyd has not looked yet."
	}
	return sentence(usersWords(c)) + ", seen " + relative(now, c.At) + "."
}

// usersWords counts consumers by what they use.
func usersWords(c status.Consumers) string {
	n := map[status.ConsumerState]int{}
	for _, x := range c.List {
		n[x.State()]++
	}
	text := words.Count(len(c.List), "consumer")
	if len(c.List) > 0 && n[status.UsesNewest] == len(c.List) {
		return text + " on the newest version"
	}
	var parts []string
	for _, s := range []struct {
		state status.ConsumerState
		words string
	}{
		{status.UsesNewest, "on the newest version"}, {status.UsesOlder, "on an older one"},
		{status.UsesUnknown, "not showing its version"}, {status.UsesOther, "set to another key"},
		{status.UsedOnce, "no longer set to it"}, {status.NotSeen, "not seen"},
	} {
		if n[s.state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[s.state], s.words))
		}
	}
	if len(parts) == 0 {
		return "no consumers"
	}
	return text + ": " + strings.Join(parts, ", ")
}

func viewUser(now time.Time, c status.Consumer, vaults map[string]string) userRow {
	r := userRow{Service: c.Service, Name: c.Name, ID: c.ID, InTheWay: c.InTheWay}
	switch c.State() {
	case status.NotSeen:
		r.Uses = "not seen"
		return r
	case status.UsesOther:
		r.Uses = "another key"
		return r
	case status.UsedOnce:
		r.Uses = "not this key any more"
		return r
	case status.UsesUnknown:
		r.Uses = "does not show its version"
	default:
		r.Uses = generationWords(c.Generation, c.Uses)
		if name := vaults[c.Vault]; name != "" {
			r.Uses += " in " + name
		}
		if !c.Since.IsZero() {
			r.Uses += ", since " + day(now, c.Since)
		}
	}
	switch c.Moves {
	case status.MovesItself:
		r.Note = "follows by itself"
		if c.Within > 0 {
			r.Note += " within " + words.Span(c.Within.Duration())
		}
	case status.MovedByKeyd:
		r.Note = "keyd moves it"
	case status.MovedByHand:
		r.Note = "set to one version"
	}
	if l := c.Log; l != nil {
		r.Log = "newest in the log: " + generationWords(l.Generation, l.Version) + ", " + relative(now, l.At)
		if l.Shared {
			r.Log += ", by an identity that others share"
		}
	}
	return r
}

func generationWords(generation int, version string) string {
	switch {
	case generation > 0:
		return fmt.Sprintf("generation %d", generation)
	case version == "":
		return "no version named"
	}
	return "version " + version
}

// logWords say of which time keyd has seen a vault's audit log, and what of it is bad.
func logWords(now time.Time, l status.UsedLog, vaults map[string]string) (notes []string) {
	if l.Error != "" {
		notes = append(notes, "The audit log of "+vaults[l.Vault]+" is not trusted now: "+l.Error)
	} else {
		notes = append(notes, fmt.Sprintf("The audit log of %s is whole from %s to %s.", vaults[l.Vault],
			day(now, l.From), day(now, l.Until)))
	}
	if r := l.Retired; r != nil {
		notes = append(notes, fmt.Sprintf("%s was asked for generation %d, which is disabled, %s.", vaults[l.Vault],
			r.Generation, relative(now, r.At)))
	}
	return notes
}

// usersOf names the consumers that use a version in a vault.
func usersOf(c *status.Consumers, url string, versions []string) string {
	if c == nil {
		return ""
	}
	var names []string
	for _, x := range c.List {
		if x.Uses == "" || x.Vault != url || x.OtherKey || !slices.Contains(versions, x.Uses) {
			continue
		}
		names = append(names, x.Service+" "+x.Name)
	}
	slices.Sort(names)
	if n := len(names); n > maxUsersNamed {
		names = append(names[:maxUsersNamed], fmt.Sprintf("%d more", n-maxUsersNamed))
	}
	return strings.Join(names, ", ")
}

// used is the time in which consumers have used a generation, in a timeline.
type used struct {
	X, W   string
	Y      int
	Title  string
	Behind bool   // some of them should use a newer one by now
	Marks  []mark // when each began, as far as that is known
}

// usedRow is how far below the top of its bar a generation's use is drawn.
const usedRow = 14

// drawUsed draws who uses a generation; nil: nobody does, as far as keyd sees. words say it in a sentence.
func drawUsed(now time.Time, s scale, c *status.Consumers, generation, y int) (u *used, sentence string) {
	if c == nil {
		return nil, ""
	}
	first, n := now, 0
	u = &used{Y: y + usedRow}
	drawn := map[string]bool{}
	for _, x := range c.List {
		if x.Generation != generation || x.OtherKey {
			continue
		}
		n++
		u.Behind = u.Behind || !x.Due.IsZero() && now.After(x.Due)
		since := x.Since
		if since.IsZero() {
			continue
		}
		if since.Before(first) {
			first = since
		}
		m := s.mark(since, fmt.Sprintf("%s %s uses generation %d since %s", x.Service, x.Name, generation,
			day(now, since)))
		if !drawn[m.X] {
			drawn[m.X] = true
			u.Marks = append(u.Marks, m)
		}
	}
	if n == 0 {
		return nil, ""
	}
	u.Title = fmt.Sprintf("%s use generation %d", words.Count(n, "consumer"), generation)
	if n == 1 {
		u.Title = fmt.Sprintf("1 consumer uses generation %d", generation)
	}
	x, to := s.at(first), s.at(now)
	u.X, u.W = percent(x), percent(max(to-x, 0.4))
	return u, u.Title + "."
}
