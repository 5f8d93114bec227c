package web

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// stepWords describes what a step does, or did.
func stepWords(e status.Event) string {
	if e.Phase == status.Wait {
		return "Waiting"
	}
	forms, ok := steps[e.Step]
	if !ok {
		return e.Step
	}
	words := forms[0]
	if e.Phase == status.Done {
		words = forms[1]
	}
	if e.Vault != "" {
		words += " " + forms[2] + " " + e.Vault
	}
	return words
}

// steps has the words for each step of the loop: under way, done, and the preposition before the vault.
var steps = map[string][3]string{
	"hold":          {"Putting the key on hold", "The key is on hold", "because of"},
	"reserve":       {"Reserving the next number", "Number reserved", ""},
	"promote":       {"Taking the next spare", "Spare taken", ""},
	"reserve-spare": {"Reserving the number of a spare", "Number of a spare reserved", ""},
	"discard-spare": {"Giving up a spare", "Spare given up", ""},
	"generate":      {"Generating the key pair in the HSM", "Key pair generated in the HSM", ""},
	"abandon":       {"Giving up an incomplete pair", "Incomplete pair given up", ""},
	"pin":           {"Checking the pair and recording its fingerprint", "Pair checked, fingerprint recorded", ""},
	"create-kek":    {"Making the key exchange key", "Key exchange key made", "in"},
	"kek-made": {"Recording a key exchange key whose making was cut short",
		"A key exchange key that keyd began to make is there", "in"},
	"kek-void":     {"Finding out whether a key exchange key was made", "A key exchange key was not made", "in"},
	"use-kek":      {"Taking the key exchange key into use", "Key exchange key in use", "in"},
	"disable-kek":  {"Disabling the old key exchange key", "Old key exchange key disabled", "in"},
	"kek-disabled": {"Recording a disabling that was cut short", "The old key exchange key is disabled", "in"},
	"kek-disable-aborted": {"Finding out whether a disabling happened", "The old key exchange key was not disabled",
		"in"},
	"import":  {"Importing", "Imported", "into"},
	"land":    {"Recording an import whose answer was lost", "An import whose answer was lost succeeded", "in"},
	"alias":   {"Recording a duplicate version", "Duplicate version recorded", "in"},
	"void":    {"Recording that an import did not happen", "Import did not happen", "in"},
	"prove":   {"Proving", "Proven", "in"},
	"finish":  {"Finishing the rotation", "Rotation finished: active everywhere", ""},
	"disable": {"Disabling under the retire rule", "Disabled under the retire rule", "in"},
	"disable-done": {"Recording what an interrupted disable did", "Recorded what an interrupted disable did",
		"in"},
	"enable":         {"Enabling a version again", "Enabled a version again", "in"},
	"enable-done":    {"Recording what an interrupted enable did", "Recorded what an interrupted enable did", "in"},
	"enable-aborted": {"Recording that a version was not enabled", "The version was not enabled", "in"},
	"repoint":        {"Moving a consumer to the newest version", "Moved a consumer to the newest version", "in"},
	"repoint-done":   {"Recording where a consumer moved", "Recorded where a consumer moved", "in"},
	"repoint-failed": {"Recording that a consumer did not move", "A consumer did not move", "in"},
	"repoint-met":    {"Recording that a consumer need not move", "A consumer need not move", "in"},
	"repoint-lapsed": {"Ending a request to move a consumer", "A request to move a consumer lapsed", ""},
	"replace-done":   {"Recording that the key is replaced", "Another key has replaced this one", ""},
	"end-consent":    {"Ending the consent to the retire rule", "The consent to the retire rule has ended", ""},
	"disable-late": {"Recording that a disabling came late", "A disabling came late; keyd undoes it",
		"in"},
	"disable-aborted": {"Recording that an interrupted disable did not happen", "An interrupted disable did not happen",
		"in"},
	"sweep": {"Destroying an unused key pair", "Unused key pair destroyed", ""},
}

// brief formats how long a step took, such as "40 ms", "1.4 s" or "3 min 05 s".
func brief(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}

// relative describes t relative to now, such as "in 3 days" or "2 hours ago".
func relative(now, t time.Time) string {
	switch d := t.Sub(now); {
	case d >= time.Second:
		return "in " + words.Span(d)
	case d > -time.Second:
		return "just now"
	default:
		return words.Span(-d) + " ago"
	}
}

// sentence returns text with a capital first letter, unless it begins with keyd's name.
func sentence(text string) string {
	if strings.HasPrefix(text, "keyd ") {
		return text
	}
	return withFirst(unicode.ToUpper, text)
}

// inside returns text for the middle of a sentence.
func inside(text string) string { return withFirst(unicode.ToLower, text) }

func withFirst(change func(rune) rune, text string) string {
	r, n := utf8.DecodeRuneInString(text)
	return string(change(r)) + text[n:]
}

// Every time is shown in the zone of now, which the page has from its snapshot: the zone of the machine, as in its
// journal.
const (
	inTheDay = "15:04:05 MST"
	inAYear  = "2 Jan 2006"
	near     = "2 Jan 15:04 MST"
)

// clock formats a time: without the date if it is today.
func clock(now, t time.Time) string {
	t = t.In(now.Location())
	if t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(inTheDay)
	}
	return t.Format("2 Jan " + inTheDay)
}

// day formats a date, with the time if it is near.
func day(now, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	t = t.In(now.Location())
	if t.Sub(now).Abs() < 48*time.Hour {
		return t.Format(near)
	}
	return t.Format(inAYear)
}

// stamp formats a time in full.
func stamp(now, t time.Time) string { return t.In(now.Location()).Format(inAYear + " " + inTheDay) }

// short returns the beginning of a version or fingerprint, for tables.
func short(s string) string {
	if len(s) > 8 {
		return s[:8] + "…"
	}
	return s
}
