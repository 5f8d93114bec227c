package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// VaultInput is everything that a vault's rule knows. No rule changes it.
type VaultInput struct {
	Now    time.Time // by the local clock
	Policy key.VaultPolicy
	Record *record.Vault
	Seen   *record.VaultLook // nil: nobody has looked yet
}

// VaultRule is one of a vault's rules. Ask returns the step that the rule decides on; ok is false if it has nothing
// to say.
type VaultRule struct {
	Name string
	Says string // what the rule does, in one sentence
	Ask  func(VaultInput) (s Step, ok bool)
}

// VaultRules lists every rule for a vault's KEKs, in the order in which NextForVault asks them.
func VaultRules() []VaultRule {
	return []VaultRule{
		{"kek-unseen", "keyd looks before it decides, and waits for a vault that it cannot see.", kekUnseen},
		{"kek-shown", "A key exchange key that keyd began to make, and that now shows, is recorded.", kekShown},
		{"kek-open", "Until the time of its making is over, a key exchange key may come to light: keyd makes no " +
			"other.", kekOpen},
		{"kek-disabling", "A disabling that was cut short gets its result.", kekDisabling},
		{"kek-use", "A key exchange key is used once the HSM side trusts it: by first use only where none is in " +
			"use yet.",
			kekUse},
		{"kek-absent", "A vault without a key exchange key gets one.", kekAbsent},
		{"kek-rotation", "A key exchange key that is asked for or due by the schedule is made, one at a time.",
			kekRotation},
		{"kek-retirement",
			"One that was superseded is disabled once no import can still need it. It comes last, as a " +
				"vault may refuse it for ever.", kekRetirement},
	}
}

// NextForVault decides the next step of one vault. It is pure: the same input gives the same step.
func NextForVault(in VaultInput) Step {
	for _, r := range VaultRules() {
		if s, ok := r.Ask(in); ok {
			s.Vault = in.Policy.URL
			return s
		}
	}
	return in.quiet()
}

// pollApproval is how often keyd checks whether a KEK has been approved. A reload makes it check at once.
const pollApproval = 5 * time.Minute

// quiet says what keyd waits for if no rule has anything to do.
func (in VaultInput) quiet() Step {
	s := Step{Kind: Idle, Vault: in.Policy.URL, Why: "nothing is due", Until: NextKEK(in.Policy, in.Record)}
	switch waiting := in.Record.Waiting(); {
	case waiting != nil:
		s.Why, s.Until = in.untrusted(waiting.Version())
	case in.Record.Active() == nil && in.Seen.Newest.Absent && !in.Policy.Create:
		s.Why, s.Until = "the vault has no key exchange key, and kek.create is false", in.Now.Add(pollApproval)
	case in.Record.Active() == nil:
		s.Why, s.Until = in.untrusted(in.Seen.Newest.KEK.Version())
	case len(in.Record.Superseded()) > 0:
		s.Until = sooner(s.Until, in.Now.Add(time.Hour))
	}
	if !s.Until.IsZero() && !s.Until.After(in.Now) {
		s.Until = in.Now.Add(pollWait) // it is due, and something is in the way
	}
	return s
}

// untrusted says why keyd does not use a KEK, and when that may have changed.
func (in VaultInput) untrusted(version string) (why string, until time.Time) {
	seen, ok := in.Seen.KEK(version)
	switch {
	case !ok:
		return fmt.Sprintf("vault %s does not show the key exchange key %s yet", in.Policy.Name, version),
			in.Now.Add(pollWait)
	case seen.Err != nil && key.ClassOf(seen.Err) != key.Refused:
		return fmt.Sprintf("keyd does not know whether it may use the key exchange key %s: %v", version, seen.Err),
			in.Now.Add(pollWait)
	case seen.Err != nil:
		return fmt.Sprintf("the key exchange key %s is not used: %v", version, seen.Err), in.Now.Add(pollApproval)
	}
	return fmt.Sprintf("the key exchange key %s waits for approval", seen.Print), in.Now.Add(pollApproval)
}

// Fresh reports whether only a look separates the beginning of the observation from now, as Input.Fresh does.
func (in VaultInput) Fresh() bool {
	age := in.Now.Sub(in.Seen.At)
	return age >= 0 && age <= key.MaxSkew+LookTimeout
}

// look is the moment at which the look began.
func (in VaultInput) look() record.Moment { return in.Seen.Moment(in.Seen.At) }

func kekUnseen(in VaultInput) (Step, bool) {
	switch {
	case in.Seen == nil:
		return Step{Kind: Look, Why: "keyd has not looked at the vault yet"}, true
	case in.Seen.Err != nil:
		return Step{Kind: Wait, Why: in.Seen.Err.Error(), Until: in.Now.Add(pollWait)}, true
	}
	return Step{}, false
}

// kekShown finds the KEK that an attempt made, by the attempt's tag. If an older keyd began to make it, it has no
// tag: then it is the newest version, unless the record has that already.
func kekShown(in VaultInput) (Step, bool) {
	for _, x := range in.Seen.Versions {
		attempt := key.ID(x.Tags[key.TagAttempt])
		if k := in.Record.Attempt(attempt); k != nil && (k.State == key.KEKMaking || k.State == key.KEKVoid) &&
			in.mayRecord(x.ID) {
			return Step{Kind: KEKMade, Attempt: attempt, Version: x.ID, Why: "it was begun, and now shows"}, true
		}
	}
	newest := in.Seen.Newest.KEK.Version()
	if k := in.Record.Making(); k != nil && k.Attempt == "" && in.mayRecord(newest) {
		return Step{Kind: KEKMade, Version: newest, Why: "it was begun, and now shows"}, true
	}
	return Step{}, false
}

// mayRecord reports whether keyd may record a version: it saw the version well enough, and the record does not have
// it yet.
func (in VaultInput) mayRecord(version string) bool {
	seen, ok := in.Seen.KEK(version)
	return ok && seen.Print != "" && in.Record.KEK(version) == nil
}

// kekOpen gives a KEK in the making the time to appear, and then gives it up.
func kekOpen(in VaultInput) (Step, bool) {
	k := in.Record.Making()
	switch {
	case k == nil:
		return Step{}, false
	case k.Begun.Over(in.look(), KEKTime(in.Policy.Vault)):
		return Step{Kind: KEKVoid, Attempt: k.Attempt, Why: "a look after its time does not show it"}, true
	}
	return Step{Kind: Wait, Until: in.Now.Add(pollSoon), Why: fmt.Sprintf(
		"vault %s does not show the key exchange key that keyd makes yet; keyd makes another after %s",
		in.Policy.Name, clock(k.Begun.Here.Add(KEKTime(in.Policy.Vault))))}, true
}

// kekDisabling resolves a disabling that was begun and may have been cut short.
func kekDisabling(in VaultInput) (Step, bool) {
	k := in.Record.Disabling()
	if k == nil {
		return Step{}, false
	}
	x, listed := in.Seen.Version(k.Version())
	switch {
	case listed && !x.Enabled:
		return Step{Kind: KEKDisabled, Version: k.Version(), Why: "it was begun, and now shows"}, true
	case k.DisableBegun.Over(in.look(), StepTimeout+in.Policy.Kind.SettleTime()):
		return Step{Kind: KEKDisableAborted, Version: k.Version(), Why: "it was begun, and its time is over"}, true
	}
	return Step{}, false
}

// kekUse takes the newest KEK that the vault shows into use, or the newest of keyd's own that waits. While none is in
// use, for example because the record was lost, the latest approved one will do.
func kekUse(in VaultInput) (Step, bool) {
	versions := []string{in.Seen.Newest.KEK.Version()}
	if k := in.Record.Waiting(); k != nil {
		versions = append(versions, k.Version())
	}
	if in.Record.Active() == nil {
		versions = append(versions, in.approved()...)
	}
	for _, version := range versions {
		if in.mayUse(version) {
			return Step{Kind: UseKEK, Version: version, Why: "the HSM side trusts it"}, true
		}
	}
	return Step{}, false
}

// approved lists the enabled versions whose fingerprints are configured, the latest first.
func (in VaultInput) approved() (versions []string) {
	latest := slices.SortedStableFunc(slices.Values(in.Seen.Versions), func(a, b key.Version) int {
		return b.Created.Compare(a.Created)
	})
	for _, x := range latest {
		if seen, ok := in.Seen.KEK(x.ID); ok && x.Enabled && seen.Trust == key.TrustConfigured {
			versions = append(versions, x.ID)
		}
	}
	return versions
}

// mayUse reports whether keyd may take a KEK into use. Trust on first use means trusting whoever answers, so it
// counts only if no KEK was ever in use.
func (in VaultInput) mayUse(version string) bool {
	seen, ok := in.Seen.KEK(version)
	if k := in.Record.KEK(version); !ok || seen.Err != nil || seen.Print == "" || k != nil && k.State != key.KEKMade {
		return false
	}
	return seen.Trust == key.TrustConfigured || in.Record.Active() == nil
}

// kekAbsent makes the vault's first KEK, or a new one if all are gone. An answer that shows none may be older than
// the last one made.
func kekAbsent(in VaultInput) (Step, bool) {
	if !in.Policy.Create || !in.Seen.Newest.Absent || len(in.Seen.Versions) > 0 {
		return Step{}, false
	}
	if last := in.Record.LastBegun(); !last.IsZero() && !last.Over(in.look(), KEKTime(in.Policy.Vault)) {
		return Step{Kind: Wait, Until: in.Now.Add(pollSoon), Why: "the vault shows no key exchange key yet"}, true
	}
	return Step{Kind: CreateKEK, Why: "the vault has no key exchange key", Trigger: Trigger{
		Reason: "the vault has no key exchange key", Requester: "keyd", Scheduled: true}}, true
}

// kekRotation makes a new version. While one waits for approval, another would not help.
func kekRotation(in VaultInput) (Step, bool) {
	t, due := in.due()
	if !due || in.Seen.Newest.Absent || WaitingKEK(in.Policy.Vault, in.Record, in.Seen) != nil {
		return Step{}, false
	}
	if !in.Policy.Create {
		return Step{Kind: Wait, Until: in.Now.Add(pollWait),
			Why: "a new key exchange key is due, and kek.create is false"}, true
	}
	if x, ok := in.unfit(); ok {
		return Step{Kind: Wait, Until: in.Now.Add(pollApproval), Why: fmt.Sprintf(
			"a new key exchange key is due, and vault %s shows the one that keyd just made, %s, as one that "+
				"cannot be used",
			in.Policy.Name, x.ID)}, true
	}
	if t.Scheduled && !in.clockAgrees() {
		return Step{Kind: Wait, Until: in.Now.Add(pollWait), Why: fmt.Sprintf(
				"a new key exchange key is due by the local clock, which differs from that of vault %s",
				in.Policy.Name)},
			true
	}
	return Step{Kind: CreateKEK, Why: t.Reason, Trigger: t}, true
}

// WaitingKEK is the KEK that waits for approval; nil for none. If somebody disabled it, or it is no longer in the
// vault under the KEK's name, it was turned down: nobody is going to approve it.
func WaitingKEK(v key.Vault, r *record.Vault, seen *record.VaultLook) *record.KEK {
	k := r.Waiting()
	if k == nil || seen == nil || seen.Err != nil {
		return k
	}
	x, listed := seen.Version(k.Version())
	if listed && !x.Enabled || !listed && k.Made.Passed(seen.Moment(seen.At), KEKTime(v)) {
		return nil
	}
	return k
}

// unfit is a version that keyd made recently and could not record as a KEK, because it is disabled or otherwise
// unfit. Another one made at once would be the same, and so on without end.
func (in VaultInput) unfit() (x key.Version, ok bool) {
	for _, x := range in.Seen.Versions {
		k := in.Record.Attempt(key.ID(x.Tags[key.TagAttempt]))
		if k != nil && k.State == key.KEKVoid && !k.Begun.Passed(in.look(), kekPause) {
			return x, true
		}
	}
	return x, false
}

// clockAgrees reports whether the local clock is known to be near the vault's.
func (in VaultInput) clockAgrees() bool { return in.Seen.SkewSeen && in.Seen.Skew.Abs() <= key.MaxSkew }

// due reports whether a new KEK was requested or is due by the schedule.
func (in VaultInput) due() (t Trigger, due bool) {
	if q := in.Record.Request; q != nil {
		return Trigger{Reason: q.Reason, Requester: q.By}, true
	}
	at := NextKEK(in.Policy, in.Record)
	if at.IsZero() || at.After(in.Now) {
		return Trigger{}, false
	}
	return Trigger{Reason: "schedule " + in.Policy.ScheduleText, Requester: "schedule", Scheduled: true}, true
}

// NextKEK is when the schedule makes a new KEK due; zero for never.
func NextKEK(p key.VaultPolicy, r *record.Vault) time.Time {
	last := r.LastMade()
	if p.Schedule == nil || last.IsZero() {
		return time.Time{}
	}
	return p.Schedule.Next(last)
}

// KEKNeeded is how long an import may still need a KEK after it was superseded. keyd reads which KEK is active at the
// beginning of the step that imports, and a step ends within StepTimeout; the vault may carry out the request until
// ImportTimeout and its settle time later. key.MaxSkew allows for the clocks of two daemons that share a state.
func KEKNeeded(v key.Vault) time.Duration { return StepTimeout + KEKTime(v) + key.MaxSkew }

// kekPause is how long keyd waits before it again tries a disabling that the vault refused.
const kekPause = 6 * time.Hour

// kekRetirement disables a superseded KEK that nothing needs any more, while the active one is in good order.
func kekRetirement(in VaultInput) (Step, bool) {
	active := in.Record.Active()
	if active == nil || in.Record.Making() != nil || !in.clockAgrees() || in.shared() || in.Policy.KeepOld {
		return Step{}, false
	}
	seen, ok := in.Seen.KEK(active.Version())
	if x, listed := in.Seen.Version(active.Version()); !ok || seen.Err != nil || seen.Print != active.Fingerprint ||
		!listed || !x.Enabled {
		return Step{}, false
	}
	for _, k := range in.Record.Superseded() {
		_, listed := in.Seen.Version(k.Version())
		refused := k.State == key.KEKSuperseded && !k.DisableBegun.IsZero() && !k.DisableBegun.Passed(in.look(),
			kekPause)
		if listed && !refused && k.Superseded.Passed(in.look(), KEKNeeded(in.Policy.Vault)) {
			return Step{Kind: DisableKEK, Version: k.Version(),
				Why: "superseded since " + k.Superseded.Here.UTC().Format(time.RFC3339)}, true
		}
	}
	return Step{}, false
}

// shared reports whether another instance made a version of the KEK. That instance may have pinned an older one, and
// disabling it would stop its imports.
func (in VaultInput) shared() bool {
	return slices.ContainsFunc(in.Seen.Versions, func(x key.Version) bool {
		by := x.Tags[key.TagInstance]
		return by != "" && by != in.Record.Instance
	})
}

// sooner is the earlier of two times; zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
