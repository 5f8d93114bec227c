package plan

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// Input is everything that a rule knows. No rule changes it.
type Input struct {
	Now    time.Time // by the local clock
	Since  time.Time // when the step began that this plan is for: an import needs a listing from then on
	Policy key.Policy
	Record *record.Record
	Seen   *record.Observation // nil: keyd has not looked at the key yet
	// NewKey is the key that replaces this one; nil: none does, or the configuration lacks it.
	NewKey *NewKey
	// SpareRefused is when the HSM side last would not make the pair of a spare; zero: not since keyd started.
	SpareRefused time.Time
}

// Rule is one of the rules. Ask returns the step that the rule decides on; ok is false if it has nothing to say.
type Rule struct {
	Name string
	Says string // what the rule does, in one sentence
	Ask  func(Input) (s Step, ok bool)
}

// Rules lists every rule, in the order in which Next asks them.
func Rules() []Rule {
	return []Rule{
		{"enabling", "keyd enables a version that an operator asked for, even while the key is held. It tries for 10 " +
			"minutes, and then finds out what came of it.", enabling},
		{"consent", "A consent to the retire rule ends when the rule changes, even while the key is held.",
			consentEnded},
		{"held", "A held key stays as it is until an operator resumes it.", held},
		{"retained", "keyd keeps and proves a key that left the configuration, and does nothing else with it.",
			retained},
		{"unseen", "keyd looks before it decides.", unseen},
		{"own-versions", "keyd records a version that belongs to one of its own attempts. An attempt is void only " +
			"after a complete listing that began after its deadline and the vault's settle time.", ownVersions},
		{"late-disabling", "A disabling that keyd had given up, and that happened all the same, is undone, and an " +
			"operator must consent to the retire rule again.", lateDisabling},
		{"contradiction", "keyd holds the key when what it sees contradicts the record.", contradiction},
		{"replaced", "Once an operator has consented to disable a replaced key, keyd disables one version after the " +
			"other, the newest last, each only while all consumers are seen on the new key and the evidence for the " +
			"version is quiet. Nothing else happens to the key any more.", replaced},
		{"refutation", "After a refuted proof keyd makes the last good generation the newest again, in that " +
			"vault only. Then it holds the key.", refutation},
		{"leftover", "keyd destroys what an earlier try left in the HSM before it makes the next pair.", leftover},
		{"pair", "The generation under way gets its pair: generate once, read back, pin, or give the id up.", pair},
		{"placement", "Each vault gets what it lacks, one vault after the other. The next one follows after the " +
			"proof in the one before.", placement},
		{"finished", "A generation that is active in every vault is finished.", finished},
		{"due", "A rotation that is requested, or due by the schedule, begins with a spare where the key has one, " +
			"and with a new generation otherwise.", rotationDue},
		{"open-disabling", "keyd finds out what came of a disabling that was cut short.", openDisabling},
		{"abandoned-id", "keyd destroys what turns up under an id that it gave up before any use.", abandonedID},
		{"spares", "A key gets the spares that its policy asks for, one after the other, once nothing else is to be " +
			"made or placed. keyd discards those that no longer fit.", spares},
		{"repointing", "keyd moves consumers that do not follow by themselves to the newest version, where the " +
			"configuration or an operator says so: one after the other, once a rotation has finished and the newest " +
			"version there was just proven. One that fails stops the others until an operator asks again.",
			repointing},
		{"replacing", "keyd sets the consumers of a key that an operator replaces to the new key: one after the " +
			"other, also those that follow by themselves, and only while the newest version of the new key was just " +
			"proven there.", replacing},
		{"retirement", "keyd disables the next version that the retire rule allows to disable: after an operator's " +
			"consent, a pause after the one before, and only once the newest version there was just proven. This " +
			"comes after all else that changes something, because a vault may refuse it for ever.", retirement},
		{"recovering", "keyd waits before it trusts a Managed HSM that shows nothing of a key that may have been " +
			"recovered in it.", recovering},
		{"retirement-waits", "keyd says what the next disabling waits for.", retirementWaits},
	}
}

// Next decides the next step of one key. It is pure: the same input gives the same step.
func Next(in Input) Step {
	for _, r := range Rules() {
		if s, ok := r.Ask(in); ok {
			return s
		}
	}
	return nothingDue(in)
}

func nothingDue(in Input) Step {
	_, _, next := Due(in)
	why := "nothing is due"
	if s := in.Record.Stage(in.Policy); s.Phase == record.Ended && s.Partial() {
		why = fmt.Sprintf("generation %d can go into no other vault any more: nothing is due before the next rotation",
			s.Generation)
	}
	return Step{Kind: Idle, Why: why, Until: next}
}

// Said is what one rule said when it was asked.
type Said struct {
	Rule
	Asked bool // false: a rule before it had decided
	Step  *Step
}

// Explain asks the rules as Next does, and returns what each one said.
func Explain(in Input) (said []Said, decided Step) {
	found := false
	for _, r := range Rules() {
		s := Said{Rule: r, Asked: !found}
		if !found {
			if step, ok := r.Ask(in); ok {
				s.Step, decided, found = &step, step, true
			}
		}
		said = append(said, s)
	}
	if !found {
		decided = nothingDue(in)
	}
	return said, decided
}

func held(in Input) (Step, bool) {
	if in.Record.Hold == nil {
		return Step{}, false
	}
	return Step{Kind: Idle, Why: "held: " + in.Record.Hold.Reason}, true
}

func retained(in Input) (Step, bool) {
	why := "not in the configuration: keyd keeps the key, and does not rotate it"
	return Step{Kind: Idle, Why: why}, in.Policy.Retained
}

func unseen(in Input) (Step, bool) {
	return Step{Kind: Look, Why: "keyd has not looked at the key yet"}, in.Seen == nil
}

// LookTimeout limits one look at one vault.
const LookTimeout = 45 * time.Second

const (
	pollSoon = 15 * time.Second // while an import is ambiguous
	pollWait = 30 * time.Second // while something outside keyd is in the way
)

// visible is a vault that could be seen.
type visible struct {
	key.Vault
	seen record.VaultSeen
}

// shown returns what a vault showed. If the configuration got the vault after the look, it counts as one that cannot
// be seen: it is not empty.
func (in Input) shown(v key.Vault) record.VaultSeen {
	seen, included := in.Seen.Vaults[v.URL]
	if !included {
		seen.Err = errors.New("keyd has not looked at it yet")
	}
	return seen
}

// vaults lists the policy's vaults that could be seen.
func (in Input) vaults() (list []visible) {
	for _, v := range in.Policy.Vaults {
		if seen := in.shown(v); seen.Err == nil {
			list = append(list, visible{v, seen})
		}
	}
	return list
}

// hold is the step that stops the key.
func (in Input) hold(code key.HoldCode, url, format string, args ...any) (Step, bool) {
	reason := fmt.Sprintf(format, args...)
	return Step{Kind: Hold, Vault: url, Why: reason,
		Hold: &key.Hold{Code: code, Vault: url, Reason: reason, Since: in.Now, By: "keyd"}}, true
}

// holdFor is a hold for what the HSM shows under an id.
func (in Input) holdFor(id key.ID, code key.HoldCode, format string, args ...any) (Step, bool) {
	s, ok := in.hold(code, "", format, args...)
	s.ID = id
	return s, ok
}

// wait is a step that waits for something outside keyd.
func (in Input) wait(n int, url, format string, args ...any) Step {
	return Step{Kind: Wait, Generation: n, Vault: url, Until: in.Now.Add(pollWait), Why: fmt.Sprintf(format, args...)}
}

func joined(whys []string) string { return strings.Join(whys, "; ") }
