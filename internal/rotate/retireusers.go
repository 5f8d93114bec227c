package rotate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/words"
)

// mostConsumers limits how many consumers the entry of a disabling lists.
const mostConsumers = 50

// userFields are the fields of an entry that say on which evidence keyd disables a version: what it saw of those who
// use the key, in this very step.
func (a act) userFields() map[string]string {
	seen, fields := a.seen.Usage, map[string]string{}
	if a.policy.Retire.NoConsumers {
		fields["configured"] = "consumers: none"
	}
	if !(plan.Input{Policy: a.policy, Seen: a.seen}).AsksUsers() {
		return fields
	}
	fields["users_seen"] = words.Moment(seen.At)
	fields["consumers"] = consumersText(seen.Consumers, a.step.Version)
	if log, ok := seen.Logs[a.step.Vault]; ok {
		fields["log"] = logText(log, a.step.Version)
	}
	return fields
}

// consumersText lists consumers with the versions that they use, by their ids.
func consumersText(list []record.ConsumerSeen, version string) string {
	list = slices.SortedFunc(
		slices.Values(list),
		func(a, b record.ConsumerSeen) int { return cmp.Compare(a.ID, b.ID) },
	)
	texts := make([]string, 0, len(list))
	for i, c := range list {
		if i == mostConsumers {
			texts = append(texts, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		text := fmt.Sprintf("%s uses %s", c.ID, cmp.Or(c.Uses, "a version that it does not show"))
		if !c.Since.IsZero() {
			text += " since " + words.Moment(c.Since)
		}
		if at := c.Left[version]; !at.IsZero() {
			text += ", left this one at " + words.Moment(at)
		}
		texts = append(texts, text)
	}
	return cmp.Or(strings.Join(texts, "; "), "none was found")
}

// logText says of which time keyd has seen a log whole, and the last use of a version in it.
func logText(log record.LogSeen, version string) string {
	var last time.Time
	for _, at := range log.Uses[version] {
		if at.After(last) {
			last = at
		}
	}
	text := fmt.Sprintf("whole from %s to %s", words.Moment(log.From), words.Moment(log.Until))
	if !log.Asked.IsZero() {
		text += ", shown by the workspace itself from " + words.Moment(log.Asked)
	}
	if last.IsZero() {
		return text + ", without a use of the version"
	}
	return text + ", last use of the version at " + words.Moment(last)
}

// ruleFields are what an entry says of a retire rule.
func ruleFields(r key.RetireRule) map[string]string {
	f := map[string]string{"disable_after": r.DisableAfter.String(), "pause": r.Between().String()}
	if r.UnusedFor > 0 {
		f["unused_for"] = r.UnusedFor.String()
	}
	if r.Backups > 0 {
		f["backups"] = r.Backups.String()
	}
	if r.NoConsumers {
		f["consumers"] = "none"
	}
	return f
}
