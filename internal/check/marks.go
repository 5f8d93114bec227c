package check

import (
	"context"
	"fmt"

	"github.com/keyd-project/keyd/internal/audit"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// marksRemedy is for a difference that no honest restart or rotation causes.
const marksRemedy = "if somebody restored a backup: keyd adopt KEY, for each key that is held; else keep the file " +
	"and tell the security officer, see the runbook, #keydauditfell"

// marks are the keyd-checkpoint tags that a check met: places in the audit chain that somebody who may write the
// state cannot change.
type marks struct {
	found  []foundMark
	unseen []string // keys whose versions could not be listed
}

// foundMark is the mark of one version.
type foundMark struct {
	audit.Mark
	where string
	// consented: a person adopted the version, so its chain is known to be another.
	consented bool
}

// collect takes the marks of one key's versions in one vault, only those of this instance.
func (c *checker) collect(rec record.Record, p key.Policy, v key.Vault, seen record.VaultSeen) {
	subject := p.Key + " in " + v.Name
	if seen.Err != nil && c.away.vaults[v.URL] {
		return // the vault has a line of its own
	}
	if seen.Err != nil {
		c.marks.unseen = append(c.marks.unseen, subject)
		return
	}
	for _, x := range seen.Versions {
		text, marked := x.Tags[key.TagCheckpoint]
		if !marked || x.Tags[key.TagInstance] != c.Config.Instance {
			continue
		}
		seq, head, err := key.ParseMark(text)
		if err != nil {
			c.warn("key", subject, "tag "+key.TagCheckpoint, fmt.Sprintf("of version %s: %v", x.ID, err),
				"the vault's own log shows who changed the tag; keyd never does")
			continue
		}
		c.marks.found = append(c.marks.found, foundMark{
			Mark: audit.Mark{Seq: seq, Head: head}, where: fmt.Sprintf("version %s of %s", x.ID, subject),
			consented: rec.Adopted(v.URL, x.ID),
		})
	}
}

// compareMarks compares the marks in the vaults with the chain. It reads the chain after every listing: a mark is in
// the chain before it is in a vault.
func (c *checker) compareMarks(ctx context.Context) {
	const name = "marks in the vaults"
	dir := c.Config.StateDir
	all := make([]audit.Mark, len(c.marks.found))
	for i, m := range c.marks.found {
		all[i] = m.Mark
	}
	mismatches, err := audit.Mismatches(ctx, c.Store, all)
	if err != nil {
		c.add("store", dir, name, err, "", "keyd audit --verify")
		return
	}
	if text := worst(c.marks.found, mismatches, false); text != "" {
		c.line(status.CheckFailed, "store", dir, name, text, marksRemedy)
	}
	if text := worst(c.marks.found, mismatches, true); text != "" {
		c.warn("store", dir, name, text+"; the version was adopted",
			"nothing, if the state was lost or put back then: keyd audit has the consent, with its reason")
	}
	if len(mismatches) == 0 {
		c.add("store", dir, name, nil, fmt.Sprintf("the chain has each of %d", len(all)), "")
	}
	for _, subject := range c.marks.unseen {
		c.warn("store", dir, name, subject+" was not listed: its marks are not compared",
			"see the lines of the key and of the vault, then check again")
	}
}

// worst names the latest mark that the chain lacks, and counts the others.
func worst(found []foundMark, mismatches map[audit.Mark]string, consented bool) string {
	var last foundMark
	n := 0
	for _, m := range found {
		if mismatches[m.Mark] == "" || m.consented != consented {
			continue
		}
		if n++; m.Seq >= last.Seq {
			last = m
		}
	}
	if n == 0 {
		return ""
	}
	text := fmt.Sprintf("%s has the mark %s, and %s", last.where, last.Mark, mismatches[last.Mark])
	if n > 1 {
		text += fmt.Sprintf(" (%d more such marks)", n-1)
	}
	return text
}
