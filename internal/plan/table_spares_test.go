package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

func spares() []example {
	two := func() *world { return given().spares(2).rotated() }
	return []example{
		{"A key whose policy asks for spares gets the first one once its rotation is finished.",
			two(),
			by("spares", plan.ReserveSpare, "asks for another spare").of(2)},
		{"Not while the rotation is under way.",
			given().spares(2).pinned().proven(1, weu),
			by("placement", plan.Import, "does not have").of(1).in(neu).because(key.CauseRotation)},
		{"A new key gets its first generation first.",
			given().spares(2),
			by("due", plan.Reserve, "no generation yet").of(1)},
		{"A spare gets its pair as any generation does.",
			two().spareReserved(),
			by("spares", plan.Generate, "reserved").of(2)},
		{"A whole pair that keyd began to make for a spare is pinned, also after a crash.",
			two().spareReserved().spareBegun().spareMade(),
			by("spares", plan.Pin, "the pair is whole").of(2)},
		{"keyd never generates twice under one id, also for a spare.",
			two().spareReserved().spareBegun(),
			by("spares", plan.Abandon, "the HSM has none").of(2)},
		{"After a try that failed, keyd waits half an hour before it tries again for a spare.",
			two().spareReserved().spareBegun().spareAbandoned(),
			idle("nothing is due")},
		{"Then it tries again.",
			two().spareReserved().spareBegun().spareAbandoned().wait(30 * time.Minute),
			by("spares", plan.Generate, "reserved").of(2)},
		{"The next spare follows after the one before is pinned.",
			two().parked(),
			by("spares", plan.ReserveSpare, "asks for another spare").of(3)},
		{"With all its spares a key is quiet.",
			two().parked().parked(),
			idle("nothing is due")},
		{"A promoted spare is made up for once the rotation is finished.",
			two().parked().parked().promoted(2).rotates(2),
			by("spares", plan.ReserveSpare, "asks for another spare").of(4)},
		{"A spare of another spec than the policy's is discarded.",
			two().parked().parked().with(func(p *key.Policy) { p.Spec = key.RSA4096 }),
			by("spares", plan.DiscardSpare, "asks for RSA-4096").of(2)},
		{"When the policy asks for fewer spares, the last ones are discarded.",
			two().parked().parked().spares(1),
			by("spares", plan.DiscardSpare, "asks for 1 spares").of(3)},
		{"A discarded spare's pair is destroyed.",
			two().parked().spareDiscarded(2).spares(0),
			by("abandoned-id", plan.Sweep, "a test").of(2)},
		{"The pair of a rotation does not wait for that: after a compromise it is urgent.",
			two().parked().compromised().reserved(),
			by("pair", plan.Generate, "reserved").of(3)},
		{"The destruction comes before the next spare: tries that fail do not fill the HSM.",
			two().parked().spareDiscarded(2),
			by("abandoned-id", plan.Sweep, "a test").of(2)},
		{"It stays while a vault cannot be seen: an old copy of the state may call a generation a spare.",
			two().parked().spareDiscarded(2).spares(0).away(neu),
			idle("nothing is due")},
		{"It stays while a vault is named no more: nobody knows what that holds.",
			two().parked().spareDiscarded(2).spares(0).nowIn(weu),
			idle("nothing is due")},
		{"It stays where a vault shows its material, whatever the HSM says.",
			two().parked().spareDiscarded(2).spares(0).lists(weu, "", material(2)).newest(weu, 1).
				accept(weu, 3),
			idle("nothing is due")},
		{"A compromise discards the spares: the rotation begins with a new pair.",
			two().parked().parked().compromised(),
			by("due", plan.Reserve, "a stolen backup").of(4)},
		{"The spares wait for the HSM, and nothing waits for them.",
			two().noHSM(),
			idle("nothing is due")},
		{"A spare's pair that was wrapped for a vault holds the key: the record is an old copy.",
			two().parked().wrapped(2),
			holds("contradiction", key.HoldRecordBehind, "as a spare that was never used")},
		{"So does one that was not even pinned.",
			two().spareReserved().spareBegun().spareMade().wrapped(2),
			holds("contradiction", key.HoldRecordBehind, "as a spare that was never used")},
		{"A version of a spare's material holds the key: the record is an old copy.",
			two().parked().lists(weu, "", material(2)),
			holds("contradiction", key.HoldRecordBehind, "made by this instance").in(weu)},
		{"A spare that is gone from the HSM holds the key.",
			two().parked().lost(2),
			holds("contradiction", key.HoldObjectMissing, "spare generation 2 of sa-cmk-key")},
		{"A spare that was altered in the HSM holds the key.",
			two().parked().spoiled(),
			holds("contradiction", key.HoldObjectMissing, "CKA_SENSITIVE is false")},
		{"What an operator asks for comes first.",
			two().asked(),
			by("due", plan.Reserve, "a drill").of(2)},
		{"The spares come before retiring, which a vault may refuse for ever.",
			given().disableAfter(30 * day).rotated().rotated().spares(1).wait(31 * day),
			by("spares", plan.ReserveSpare, "asks for another spare").of(3)},
		{"A key that left the configuration keeps its spares.",
			two().parked().retained(),
			by("retained", plan.Idle, "not in the configuration")},
	}
}

// dueWithSpares are the examples of the rule due in which the key has spares.
func dueWithSpares() []example {
	one := func() *world { return given().spares(1).rotated().parked() }
	return []example{
		{"A requested rotation begins with a spare.",
			one().asked(),
			by("due", plan.Promote, "a drill").of(2)},
		{"So does a scheduled one.",
			one().schedule(30 * day).wait(31 * day),
			by("due", plan.Promote, "@every").of(2)},
		{"The oldest spare comes first.",
			given().spares(2).rotated().parked().parked().asked(),
			by("due", plan.Promote, "a drill").of(2)},
		{"A spare whose pair is still being made is promoted, too: nothing is made twice.",
			given().spares(1).rotated().spareReserved().spareBegun().asked(),
			by("due", plan.Promote, "a drill").of(2)},
		{"keyd promotes only what the HSM shows: an old copy of the state may call a generation a spare.",
			one().asked().noHSM(),
			by("due", plan.Wait, "the HSM cannot be used").of(2).again(30 * time.Second)},
		{"A promoted spare goes straight to the first vault.",
			one().asked().promoted(2),
			by("placement", plan.Import, "does not have").of(2).in(weu).because(key.CauseRotation)},
		{"A spare of another spec than the policy's is not promoted.",
			one().asked().with(func(p *key.Policy) { p.Spec = key.RSA4096 }),
			by("due", plan.Reserve, "a drill").of(3)},
		{"A spare that the policy no longer asks for is not promoted.",
			one().asked().spares(0),
			by("due", plan.Reserve, "a drill").of(3)},
		{"Making spares moves no schedule: the next rotation counts from the last one.",
			given().schedule(30 * day).spares(1).rotated().wait(20 * day).parked().wait(11 * day),
			by("due", plan.Promote, "@every").of(2)},
		{"Spares spend no budget.",
			given().with(func(p *key.Policy) { p.Budget = 2 }).spares(3).rotated().parked().parked().parked().asked(),
			by("due", plan.Promote, "a drill").of(2)},
	}
}

// What the world has of spares.

func (w *world) spares(n int) *world { return w.with(func(p *key.Policy) { p.Spares = n }) }

func (w *world) spareReserved() *world {
	id, _ := w.freshID()
	_, err := w.record.ReserveSpare(w.clock, w.policy, id)
	return w.must(err)
}

func (w *world) spareBegun() *world {
	_, err := w.record.BeginGenerate(w.clock, w.record.UnmadeSpare().Number)
	return w.must(err)
}

func (w *world) spareMade() *world {
	s := w.record.UnmadeSpare()
	return w.object(s.ID, s.Number, true)
}

func (w *world) spareAbandoned() *world {
	id, _ := w.freshID()
	return w.must(w.record.AbandonID(w.clock, w.record.UnmadeSpare().Number, id, "a test"))
}

// parked is one more spare with its pair.
func (w *world) parked() *world {
	w.spareReserved().spareBegun().spareMade()
	n := w.record.UnmadeSpare().Number
	_, err := w.record.Pin(w.clock, n, print(n))
	return w.must(err)
}

func (w *world) spareDiscarded(n int) *world {
	return w.must(w.record.DiscardSpare(w.clock, n, "a test"))
}

// promoted: a rotation began with the spare.
func (w *world) promoted(n int) *world {
	_, err := w.record.Promote(w.clock, w.policy, n, record.Reservation{Reason: "a test", Requester: "uid 0 (root)"})
	return w.must(err)
}

// rotates places a pinned generation in every vault.
func (w *world) rotates(n int) *world {
	for _, v := range w.policy.Vaults {
		w.proven(n, v)
	}
	return w.finished(n)
}

// wrapped: the HSM shows that the pair of a number was wrapped for a vault.
func (w *world) wrapped(n int) *world {
	for i := range w.hsm.Objects {
		if w.hsm.Objects[i].Label.Number == n {
			w.hsm.Objects[i].Label.Pending = false
		}
	}
	return w
}

// accept: an operator lets keyd import over a version.
func (w *world) accept(v key.Vault, n int) *world { w.record.Accept(v.URL, version(n)); return w }
