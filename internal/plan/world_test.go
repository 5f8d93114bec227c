package plan_test

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// The vaults of the table. Most keys have weu and neu; mhsm is a Managed HSM.
var (
	weu  = key.Vault{Name: "weu", URL: "https://contoso-weu.vault.azure.net", Kind: key.KeyVault}
	neu  = key.Vault{Name: "neu", URL: "https://contoso-neu.vault.azure.net", Kind: key.KeyVault}
	mhsm = key.Vault{Name: "mhsm", URL: "https://contoso.managedhsm.azure.net", Kind: key.ManagedHSM}
)

const (
	day     = 24 * time.Hour
	keyName = "sa-cmk-key"
	us      = "hq-1" // the instance
	kekSeen = key.Fingerprint("sha256:kek")
)

var (
	began     = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	errAway   = errors.New("connection refused")
	errLocked = errors.New("the PIN was refused")
	errKEK    = errors.New("its fingerprint is not the pinned one")
)

// every is a schedule that fires in equal steps, counted from began.
type every time.Duration

func (e every) Next(t time.Time) time.Time {
	return began.Add(t.Sub(began).Truncate(time.Duration(e)) + time.Duration(e))
}

// world is one key, what its record says, and what the HSM and the vaults have. Its methods change it in the order in
// which things happen. Each takes a minute; wait lets more time pass.
type world struct {
	clock    time.Time
	policy   key.Policy
	record   record.Record
	hsm      record.HSMSeen
	vaults   map[string]*record.VaultSeen
	usage    record.Usage
	heir     *world // the key that replaces this one
	unseen   bool
	lookAge  time.Duration
	ids      int
	attempts int
	versions int
}

// given is a key that was just configured, for the given vaults or for weu and neu.
func given(vaults ...key.Vault) *world {
	if len(vaults) == 0 {
		vaults = []key.Vault{weu, neu}
	}
	w := &world{
		clock:  began,
		policy: key.Policy{Key: keyName, Spec: key.RSA2048, Vaults: vaults},
		record: record.Record{Schema: record.SchemaVersion, Key: keyName, Instance: us},
		vaults: map[string]*record.VaultSeen{},
	}
	for _, v := range []key.Vault{weu, neu, mhsm} {
		w.vaults[v.URL] = &record.VaultSeen{
			SkewSeen: true,
			KEK:      record.KEKSeen{Print: kekSeen, KEK: key.KEK{Vault: v.URL, Kid: v.URL + "/keys/kek/1"}},
		}
	}
	return w
}

// input is what a rule gets: the world as seen now.
func (w *world) input() plan.Input {
	seen := &record.Observation{At: w.clock, HSM: w.hsm, Vaults: map[string]record.VaultSeen{}, Usage: w.usage}
	for _, v := range w.policy.Vaults {
		if s, included := w.vaults[v.URL]; included {
			shown := *s
			shown.Begun, shown.NewestAt, shown.ClockAt = w.clock, w.clock, w.clock
			seen.Vaults[v.URL] = shown
		}
	}
	if w.unseen {
		seen = nil
	}
	in := plan.Input{Now: w.clock.Add(w.lookAge), Policy: w.policy, Record: &w.record, Seen: seen}
	if w.heir != nil {
		w.heir.clock = w.clock
		heir := w.heir.input()
		in.NewKey = &plan.NewKey{Policy: heir.Policy, Record: heir.Record, Seen: heir.Seen}
	}
	return in
}

// must requires a transition that the case needs.
func (w *world) must(err error) *world {
	if err != nil {
		panic(err)
	}
	return w.wait(time.Minute)
}

func (w *world) wait(d time.Duration) *world { w.clock = w.clock.Add(d); return w }

// with changes the policy.
func (w *world) with(change func(*key.Policy)) *world { change(&w.policy); return w }

func (w *world) schedule(e time.Duration) *world {
	return w.with(func(p *key.Policy) { p.Schedule, p.ScheduleText = every(e), "@every" })
}

// disableAfter: the configuration has a retire rule and says that the key has no consumers, and an operator consents to
// it at once.
func (w *world) disableAfter(d time.Duration) *world {
	return w.with(func(p *key.Policy) { p.Retire.DisableAfter, p.Retire.NoConsumers = d, true }).consented()
}

// consented: an operator consents to the retire rule, and to what it is to disable now.
func (w *world) consented() *world {
	w.record.Consent = &record.Consent{Rule: w.policy.Retire, At: w.clock, By: "uid 0 (root)"}
	for _, r := range plan.Retirements(w.clock, w.policy, w.policy.Retire, &w.record) {
		w.record.Consent.Versions = append(w.record.Consent.Versions, r.Version)
	}
	return w
}

// withoutConsent: the consent has ended.
func (w *world) withoutConsent() *world { w.record.EndConsent(); return w }

// tried: keyd has just tried to prove a vault's newest version.
func (w *world) tried(v key.Vault, err error) *world {
	return w.sees(v, func(s *record.VaultSeen) {
		s.Proof = record.ProofSeen{At: w.clock, Version: s.Newest, Err: err}
	})
}

// toEnable: an operator asked to enable the version of an attempt again.
func (w *world) toEnable(n int) *world {
	_, err := w.record.AskEnable(record.Enabling{Attempt: attempt(n), Version: w.record.Placement(attempt(n)).Version,
		At: w.clock, By: "uid 0 (root)", Reason: "a service still reads under it"})
	return w.must(err)
}

// doubted: the record lacks changes, and an operator has consented to the rule again.
func (w *world) doubted() *world {
	w.record.Doubt(w.clock)
	return w.consented().wait(time.Minute)
}

// retired: keyd has disabled the version of an attempt.
func (w *world) retired(n int) *world {
	w.disabling(n)
	return w.must(w.record.Disable(attempt(n), w.clock, nil))
}

// What the record and the world have: the steps of a rotation.

func (w *world) freshID() (key.ID, error) {
	w.ids++
	return key.ID(fmt.Sprintf("%032x", w.ids)), nil
}

func (w *world) reserved(without ...key.Vault) *world {
	id, _ := w.freshID()
	var answers []key.ID
	for _, q := range w.record.Requests {
		answers = append(answers, q.ID)
	}
	_, err := w.record.Reserve(w.clock, w.policy, record.Reservation{
		ID: id, Reason: "a test", Requester: "uid 0 (root)", Requests: answers, Without: urls(without),
	})
	return w.must(err)
}

func (w *world) latest() *record.Generation { return w.record.Latest() }

// begun: keyd was about to call C_GenerateKeyPair.
func (w *world) begun() *world {
	_, err := w.record.BeginGenerate(w.clock, w.latest().Number)
	return w.must(err)
}

// made: the HSM has a whole pair under the latest generation's id, wrapped for no vault.
func (w *world) made() *world { return w.object(w.latest().ID, w.latest().Number, true) }

func (w *world) object(id key.ID, n int, pending bool) *world {
	w.hsm.Objects = append(w.hsm.Objects, key.Object{
		ID: id, Label: key.Label{Instance: us, Key: keyName, Number: n, Pending: pending},
		Complete: true, Material: material(n),
	})
	return w
}

// late: the HSM did not have the pair that it shows last when the audit chain began.
func (w *world) late() *world {
	w.hsm.Objects[len(w.hsm.Objects)-1].Late = true
	return w
}

// pinned: a generation has its pair, and is placed nowhere.
func (w *world) pinned(without ...key.Vault) *world {
	return w.reserved(without...).filled()
}

// filled gives the latest generation its pair.
func (w *world) filled() *world {
	w.begun().made()
	_, err := w.record.Pin(w.clock, w.latest().Number, print(w.latest().Number))
	return w.must(err)
}

// sent: the attempt is recorded, and its PUT was sent. Nobody knows the outcome.
func (w *world) sent(n int, v key.Vault) *world { return w.sentFor(key.CauseRotation, n, v) }

func (w *world) sentFor(cause key.Cause, n int, v key.Vault) *world {
	w.attempts++
	for i := range w.hsm.Objects { // the HSM side clears the mark before the first wrap
		if o := &w.hsm.Objects[i]; o.ID == w.record.Generation(n).ID {
			o.Label.Pending = false
		}
	}
	seen := w.vaults[v.URL]
	return w.must(w.record.Intend(n, record.Placement{
		Attempt: attempt(w.attempts), Vault: v.URL, VaultName: v.Name, Cause: cause, At: w.clock,
		Deadline: w.clock.Add(plan.ImportTimeout), VaultAt: seen.Clock(w.clock), KEKPrint: kekSeen,
	}))
}

// shows: the vault lists a new version, the newest, with the last attempt's tag and a generation's material.
func (w *world) shows(n int, v key.Vault) *world { return w.lists(v, attempt(w.attempts), material(n)) }

// lists: the vault lists a new version, the newest.
func (w *world) lists(v key.Vault, tag key.ID, m key.Material) *world {
	w.versions++
	seen := w.vaults[v.URL]
	x := key.Version{ID: version(w.versions), Created: seen.There(w.clock), Enabled: true, Tags: map[string]string{}}
	if tag != "" {
		x.Tags[key.TagAttempt] = string(tag)
	}
	seen.Versions, seen.Newest, seen.Material = append(seen.Versions, x), x.ID, seen.Material.With(x.ID, m)
	return w
}

// imported: the vault and the record have the version, and it is not proven.
func (w *world) imported(n int, v key.Vault) *world { return w.importedFor(key.CauseRotation, n, v) }

func (w *world) importedFor(cause key.Cause, n int, v key.Vault) *world {
	w.sentFor(cause, n, v).shows(n, v)
	seen := w.vaults[v.URL]
	return w.must(w.record.Land(w.clock, attempt(w.attempts), seen.Versions[len(seen.Versions)-1]))
}

func (w *world) proven(n int, v key.Vault) *world { return w.provenFor(key.CauseRotation, n, v) }

func (w *world) provenFor(cause key.Cause, n int, v key.Vault) *world {
	w.importedFor(cause, n, v)
	return w.must(w.record.Prove(w.clock, attempt(w.attempts)))
}

func (w *world) refuted(n int, v key.Vault) *world {
	w.imported(n, v)
	return w.must(w.record.Refute(attempt(w.attempts), "a wrong modulus"))
}

func (w *world) finished(n int) *world {
	_, err := w.record.Finish(w.clock, w.policy, n)
	return w.must(err)
}

// rotated is one whole rotation: the next generation, active in every vault.
func (w *world) rotated() *world {
	w.pinned()
	n := w.latest().Number
	for _, v := range w.policy.Vaults {
		w.proven(n, v)
	}
	return w.finished(n)
}

// asked is an operator's request.
func (w *world) asked(without ...key.Vault) *world {
	return w.must(w.record.Ask(key.Request{
		ID: "r1", At: w.clock, By: "uid 0 (root)", Reason: "a drill", Without: urls(without),
	}, w.freshID))
}

func (w *world) compromised() *world {
	return w.must(w.record.Ask(key.Request{
		ID: "c1", At: w.clock, By: "uid 0 (root)", Reason: "a stolen backup", Compromise: true,
	}, w.freshID))
}

func (w *world) abandoned() *world {
	id, _ := w.freshID()
	return w.must(w.record.AbandonID(w.clock, w.latest().Number, id, "a test"))
}

// voided: the last attempt certainly did not happen, as far as anybody can tell.
func (w *world) voided() *world { return w.must(w.record.Void(attempt(w.attempts), "a test")) }

// refutedLate: the last attempt's version appears after the attempt was given up, and is refuted.
func (w *world) refutedLate(n int, v key.Vault) *world {
	w.shows(n, v)
	seen := w.vaults[v.URL]
	w.must(w.record.Land(w.clock, attempt(w.attempts), seen.Versions[len(seen.Versions)-1]))
	return w.must(w.record.Refute(attempt(w.attempts), "a wrong modulus"))
}

// damagedLate: an earlier attempt comes to light after it was given up, with other material, as the newest version.
func (w *world) damagedLate(n int, v key.Vault) *world { return w.lists(v, attempt(n), material(99)) }

// refutedLateOf: such a version is recorded, and refuted.
func (w *world) refutedLateOf(n int, v key.Vault) *world {
	w.damagedLate(n, v)
	seen := w.vaults[v.URL]
	w.must(w.record.Land(w.clock, attempt(n), seen.Versions[len(seen.Versions)-1]))
	return w.must(w.record.Refute(attempt(n), "a wrong modulus"))
}

// refutedRollback: the last generation to go back to is refuted as well.
func (w *world) refutedRollback(n int, v key.Vault) *world {
	w.importedFor(key.CauseRollback, n, v)
	return w.must(w.record.Refute(attempt(w.attempts), "a wrong modulus"))
}

// foreign: somebody else made a version in the vault, the newest.
func (w *world) foreign(v key.Vault) *world { return w.lists(v, "", material(99)) }

// accepted: an operator lets keyd import over the newest version.
func (w *world) accepted(v key.Vault) *world {
	w.record.Accept(v.URL, w.vaults[v.URL].Newest)
	return w.wait(time.Minute)
}

func (w *world) noKEK(v key.Vault) *world {
	w.vaults[v.URL].KEK = record.KEKSeen{Err: errors.New("it has no key exchange key yet")}
	return w
}

func (w *world) refusedKEK(v key.Vault) *world {
	w.vaults[v.URL].KEK = record.KEKSeen{Print: "sha256:other", Err: errKEK}
	return w
}

// notIncluded: the look was made before the configuration named the vault.
func (w *world) notIncluded(v key.Vault) *world { delete(w.vaults, v.URL); return w }

// exchanged: the latest pair in the HSM is whole, but has other material.
func (w *world) exchanged() *world {
	w.hsm.Objects[len(w.hsm.Objects)-1].Material = material(99)
	return w
}

// newest: the vault calls the version its newest.
func (w *world) newest(v key.Vault, n int) *world { w.vaults[v.URL].Newest = version(n); return w }

// nowIn changes the vaults that the configuration names.
func (w *world) nowIn(vaults ...key.Vault) *world {
	return w.with(func(p *key.Policy) { p.Vaults = vaults })
}

func (w *world) retained() *world { return w.with(func(p *key.Policy) { p.Retained = true }) }

// aliased: the vault made a second version of the same material, and the record has it.
func (w *world) aliased(n int, v key.Vault) *world {
	w.lists(v, "", material(n))
	x, _ := w.vaults[v.URL].Version(w.vaults[v.URL].Newest)
	return w.must(w.record.Alias(w.clock, w.record.Generation(n).In(v.URL).Attempt,
		record.FoundVersion{Vault: v, Version: x}))
}

// destroyed: nothing is left in the HSM under the id.
func (w *world) destroyed(n int) *world {
	w.hsm.Objects = slices.DeleteFunc(w.hsm.Objects, func(o key.Object) bool {
		return o.ID == key.ID(fmt.Sprintf("%032x", n))
	})
	return w
}

func (w *world) destroyBegun(n int) *world {
	return w.must(w.record.BeginDestroy(w.clock, key.ID(fmt.Sprintf("%032x", n))))
}

func (w *world) held(code key.HoldCode) *world {
	w.record.Hold = &key.Hold{Code: code, Reason: "a test", Since: w.clock, By: "uid 0 (root)"}
	return w
}

func (w *world) resumed() *world {
	w.record.Lift(w.clock)
	w.record.Retry()
	return w.wait(time.Minute)
}

// disabling: keyd began to disable a version of an attempt.
func (w *world) disabling(n int) *world {
	at := w.record.Placement(attempt(n))
	return w.must(w.record.BeginDisable(attempt(n), at.Enabled()[0],
		record.Moment{Here: w.clock, There: w.vaults[at.Vault].Clock(w.clock)}))
}

// disablingAll: an earlier keyd began to disable all versions of an attempt at once.
func (w *world) disablingAll(n int) *world {
	at := w.record.Placement(attempt(n))
	at.State, at.DisableBegun = key.Disabling, w.vaults[at.Vault].There(w.clock)
	return w.wait(time.Minute)
}

// followed: the last alias is the newest version where its generation was placed last.
func (w *world) followed(n int, v key.Vault) *world {
	w.lists(v, "", material(n))
	x, _ := w.vaults[v.URL].Version(w.vaults[v.URL].Newest)
	return w.must(w.record.Alias(w.clock, w.record.Generation(n).In(v.URL).Attempt,
		record.FoundVersion{Vault: v, Version: x, Newest: true}))
}

// disabled: the vault has the version disabled, whoever did it.
func (w *world) disabled(v key.Vault, n int) *world { return w.setEnabled(v, n, false) }

// enabled: the vault has the version enabled again.
func (w *world) enabled(v key.Vault, n int) *world { return w.setEnabled(v, n, true) }

func (w *world) setEnabled(v key.Vault, n int, enabled bool) *world {
	for i := range w.vaults[v.URL].Versions {
		if x := &w.vaults[v.URL].Versions[i]; x.ID == version(n) {
			x.Enabled = enabled
		}
	}
	return w
}

// foundDisabled: the version of an attempt was gone, as an adoption recorded. It is there again, disabled.
func (w *world) foundDisabled(n int) *world {
	at := w.record.Placement(attempt(n))
	w.record.LoseVersion(attempt(n))
	w.must(w.record.LandDisabled(w.clock, attempt(n)))
	for i := range w.vaults[at.Vault].Versions {
		if x := &w.vaults[at.Vault].Versions[i]; x.ID == at.Version {
			x.Enabled = false
		}
	}
	return w
}

// What keyd sees.

// away: the vault does not answer.
func (w *world) away(v key.Vault) *world {
	w.vaults[v.URL] = &record.VaultSeen{Err: errAway}
	return w
}

// sees changes what a vault shows.
func (w *world) sees(v key.Vault, change func(*record.VaultSeen)) *world {
	change(w.vaults[v.URL])
	return w
}

// emptied: the vault shows nothing of the key.
func (w *world) emptied(v key.Vault) *world {
	return w.sees(v, func(s *record.VaultSeen) { s.Versions, s.Newest, s.EmptySince = nil, "", w.clock })
}

// skewed: the vault's clock differs from the local one.
func (w *world) skewed(v key.Vault, by time.Duration) *world {
	return w.sees(v, func(s *record.VaultSeen) { s.Skew = by })
}

// full: a Managed HSM has 95 versions of the key.
func (w *world) full(v key.Vault) *world {
	for len(w.vaults[v.URL].Versions) < 95 {
		w.versions++
		x := key.Version{ID: version(w.versions), Created: began, Enabled: true}
		w.record.Accept(v.URL, x.ID)
		w.sees(v, func(s *record.VaultSeen) { s.Versions = append([]key.Version{x}, s.Versions...) })
	}
	return w
}

func (w *world) noHSM() *world { w.hsm = record.HSMSeen{Err: errLocked}; return w }

// lost: the HSM lacks the pair of a generation.
func (w *world) lost(n int) *world {
	kept := w.hsm.Objects[:0:0]
	for _, o := range w.hsm.Objects {
		if o.Label.Number != n {
			kept = append(kept, o)
		}
	}
	w.hsm.Objects = kept
	return w
}

// adoptedLost: an operator acknowledged that the pair is lost.
func (w *world) adoptedLost(n int) *world {
	w.lost(n).record.LosePair(w.clock, n)
	return w.wait(time.Minute)
}

// spoiled: the latest object in the HSM is not whole.
func (w *world) spoiled() *world {
	o := &w.hsm.Objects[len(w.hsm.Objects)-1]
	o.Complete, o.Problem = false, "CKA_SENSITIVE is false"
	return w
}

func (w *world) notLooked() *world { w.unseen = true; return w }

func attempt(n int) key.ID { return key.ID(fmt.Sprintf("a%031x", n)) }
func version(n int) string { return fmt.Sprintf("b%031x", n) }

// material is a generation's material. Any number serves as modulus, because nothing computes with it.
func material(n int) key.Material {
	modulus := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(int64(n)))
	m, err := key.FromJWK(modulus.Bytes(), []byte{1, 0, 1})
	if err != nil {
		panic(err)
	}
	return m
}

func print(n int) key.Fingerprint { return material(n).Fingerprint() }

func urls(vaults []key.Vault) (out []string) {
	for _, v := range vaults {
		out = append(out, v.URL)
	}
	return out
}

func same(a, b record.Record) bool { return reflect.DeepEqual(a, b) }

// aborted: what keyd began to disable was not disabled.
func (w *world) aborted(n int) *world { return w.must(w.record.AbortDisable(attempt(n))) }

// unlisted: the consent lists no version.
func (w *world) unlisted() *world { w.record.Consent.Versions = nil; return w }
