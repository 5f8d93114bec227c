package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// holdWords says in one clause why a key is on hold. {vault} is the vault's name, if it is known.
var holdWords = map[key.HoldCode]string{
	key.HoldPaused:          "is paused by an operator",
	key.HoldForeign:         "is on hold: the newest version in {vault} is not keyd's",
	key.HoldNameTaken:       "is on hold: its name in {vault} already holds versions that keyd never made",
	key.HoldVersionsMissing: "is on hold: {vault} no longer shows a version that keyd imported",
	key.HoldKeyDeleted:      "is on hold: the key was deleted in {vault}",
	key.HoldRefuted:         "is on hold: {vault} holds other material than the HSM",
	key.HoldRecordBehind:    "is on hold: the HSM or a vault shows more than keyd's record knows",
	key.HoldObjectMissing:   "is on hold: the HSM does not show one of its key pairs",
	key.HoldAdopted:         "is on hold: its record was rebuilt, and a person must review it",
}

// holdSentence says that a key is on hold, and why. vault may be "".
func holdSentence(name, vault string, code key.HoldCode) string {
	words, ok := holdWords[code]
	if !ok {
		words = "is on hold (" + string(code) + ")"
	}
	if vault == "" {
		vault = "a vault"
	}
	return name + " " + strings.ReplaceAll(words, "{vault}", vault)
}

// holdDetail says since when a key is on hold, and who put it there.
func holdDetail(now time.Time, hold *key.Hold) string {
	return fmt.Sprintf("Since %s, %s, by %s.", stamp(now, hold.Since), relative(now, hold.Since), hold.By)
}

// holdReason is keyd's own description of a hold. An operator's text may contain anything, so the page leaves it out.
func holdReason(hold *key.Hold) []string {
	if hold.Code == key.HoldPaused || hold.Reason == "" {
		return nil
	}
	return []string{sentence(hold.Reason)}
}

func holdRemedy(name string, code key.HoldCode) string {
	const first = "follow the runbook before you change anything in the vault or the HSM; "
	switch code {
	case key.HoldPaused:
		return fmt.Sprintf("keyd status %s shows the reason; keyd resume %s --reason … lifts the hold", name, name)
	case key.HoldForeign, key.HoldNameTaken, key.HoldVersionsMissing, key.HoldRecordBehind, key.HoldObjectMissing:
		return first + fmt.Sprintf("keyd adopt %s shows what would follow, and changes nothing", name)
	}
	return first + fmt.Sprintf("then keyd resume %s --reason … lifts the hold", name)
}
