package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

func placement() []example {
	return []example{
		{"A pinned generation goes into the first vault of the policy.",
			given().pinned(),
			by("placement", plan.Import, "does not have").of(1).in(weu).because(key.CauseRotation)},
		{"keyd touches no vault before all can be reached.",
			given().pinned().away(neu),
			by("placement", plan.Wait, "touches no vault before all are ready").of(1).again(30 * time.Second)},
		{"keyd touches no vault before it trusts the key exchange key of every vault.",
			given().pinned().refusedKEK(neu),
			by("placement", plan.Wait, "not the pinned one").of(1).again(30 * time.Second)},
		{"keyd touches no vault before every vault has a key exchange key; the vault's own rules make it.",
			given().pinned().noKEK(neu),
			by("placement", plan.Wait, "has no key exchange key yet").of(1).again(30 * time.Second)},
		{"Nothing is imported into a vault that the last look did not include.",
			given(weu).rotated().nowIn(weu, neu).notIncluded(neu),
			idle("nothing is due")},
		{"keyd does not wait for a vault that the operator left out.",
			given().pinned(neu).away(neu),
			by("placement", plan.Import, "does not have").of(1).in(weu).because(key.CauseRotation)},
		{"An import is proven before the next vault is touched.",
			given().pinned().imported(1, weu),
			by("placement", plan.Prove, "imported").of(1).in(weu).ofAttempt(1).ofVersion(1).because(key.CauseRotation)},
		{"After the proof the next vault follows.",
			given().pinned().proven(1, weu),
			by("placement", plan.Import, "does not have").of(1).in(neu).because(key.CauseRotation)},
		{"Once a generation is in one vault, one that is away does not stop the others.",
			given(weu, neu, mhsm).pinned().proven(1, weu).away(neu),
			by("placement", plan.Import, "does not have").of(1).in(mhsm).because(key.CauseRotation)},
		{"The rotation waits for the vault that is away.",
			given().pinned().proven(1, weu).away(neu),
			by("placement", plan.Wait, "connection refused").of(1).again(30 * time.Second)},
		{"An import waits for the HSM.",
			given().pinned().noHSM(),
			by("placement", plan.Wait, "the HSM cannot be used").of(1).again(30 * time.Second)},
		{"After a void attempt the generation is imported again.",
			given().pinned().sent(1, weu).wait(time.Hour).voided(),
			by("placement", plan.Import, "does not have").of(1).in(weu).because(key.CauseRotation)},
		{"A vault that is new in the configuration gets every generation, the oldest first.",
			given(weu).rotated().rotated().nowIn(weu, neu),
			by("placement", plan.Import, "does not have").of(1).in(neu).because(key.CauseNewVault)},
		{"A vault never gets a generation that is older than what it has.",
			given(weu).rotated().rotated().nowIn(weu, neu).provenFor(key.CauseNewVault, 2, neu),
			idle("nothing is due")},
		{"A vault that was left out catches up once the generation is finished.",
			given().rotated().pinned(neu).proven(2, weu).finished(2),
			by("placement", plan.Import, "does not have").of(2).in(neu).because(key.CauseRotation)},
		{"A Managed HSM with 95 versions of the key gets no more.",
			given(mhsm).rotated().pinned().full(mhsm),
			by("placement", plan.Wait, "allows at most 100").of(2).again(30 * time.Second)},
		{"A duplicate that is the vault's newest version is proven as an import is: consumers follow it.",
			given(weu).rotated().followed(1, weu),
			by("placement", plan.Prove, "imported").of(1).in(weu).ofVersion(2).because(key.CauseDuplicate)},
		{"A duplicate of an older generation is not proven: it does not stay the newest.",
			given(weu).rotated().rotated().followed(1, weu).wait(time.Hour),
			by("placement", plan.Import, "not the intended generation").of(2).in(weu).because(key.CauseRepair)},
		{"When an older version of keyd's becomes the newest, the intended generation is imported again.",
			given().rotated().rotated().wait(time.Hour).newest(weu, 1),
			by("placement", plan.Import, "not the intended generation").of(2).in(weu).because(key.CauseRepair)},
		{"keyd imports over a foreign version once an operator accepted it.",
			given().rotated().wait(time.Hour).foreign(weu).accepted(weu),
			by("placement", plan.Import, "not the intended generation").of(1).in(weu).because(key.CauseRepair)},
		{"Nothing is repaired while the answers may predate the last import.",
			given(mhsm).rotated().rotated().newest(mhsm, 1),
			idle("nothing is due")},
		{"A generation whose pair is lost is not imported to repair anything.",
			given().rotated().rotated().adoptedLost(2).wait(time.Hour).newest(weu, 1),
			idle("nothing is due")},
		{"A compromised generation goes into no other vault.",
			given().rotated().pinned().proven(2, weu).compromised(),
			by("due", plan.Reserve, "a stolen backup").of(3)},
		{"An unproven import of a compromised generation blocks nothing.",
			given().rotated().pinned().imported(2, weu).compromised(),
			by("due", plan.Reserve, "a stolen backup").of(3)},
		{"A generation whose pair was lost goes into no other vault.",
			given().rotated().pinned().proven(2, weu).adoptedLost(2),
			idle("generation 2 can go into no other vault any more")},
	}
}

func finished() []example {
	return []example{
		{"A generation that is active in every vault is finished.",
			given().pinned().proven(1, weu).proven(1, neu),
			by("finished", plan.Finish, "active in every vault").of(1)},
		{"A vault that was left out does not keep it open.",
			given().pinned(neu).proven(1, weu),
			by("finished", plan.Finish, "active in every vault").of(1)},
		{"A vault that left the configuration does not keep it open.",
			given().pinned().proven(1, weu).nowIn(weu),
			by("finished", plan.Finish, "active in every vault").of(1)},
		{"Leaving out every vault leaves out none.",
			given().pinned(weu, neu),
			by("placement", plan.Import, "does not have").of(1).in(weu).because(key.CauseRotation)},
		{"An unproven import keeps it open.",
			given().pinned().proven(1, weu).imported(1, neu),
			by("placement", plan.Prove, "imported").of(1).in(neu).because(key.CauseRotation)},
		{"A vault that needs a repair gets it first.",
			given().rotated().pinned().proven(2, weu).proven(2, neu).wait(time.Hour).newest(weu, 1),
			by("placement", plan.Import, "not the intended generation").of(2).in(weu).because(key.CauseRepair)},
		{"A generation is finished before the next one begins.",
			given().pinned().proven(1, weu).proven(1, neu).asked(),
			by("finished", plan.Finish, "active in every vault").of(1)},
		{"Finishing needs no HSM.",
			given().pinned().proven(1, weu).proven(1, neu).noHSM(),
			by("finished", plan.Finish, "active in every vault").of(1)},
	}
}

func due() []example {
	share := time.Duration(plan.Share(keyName, uint64(10*time.Hour)))
	return []example{
		{"A key that never had a generation gets one.",
			given(),
			by("due", plan.Reserve, "no generation yet").of(1)},
		{"A request begins a rotation.",
			given().rotated().asked(),
			by("due", plan.Reserve, "a drill").of(2)},
		{"The schedule begins a rotation.",
			given().schedule(30 * day).rotated().wait(30 * day),
			by("due", plan.Reserve, "schedule @every").of(2)},
		{"Before the schedule fires, nothing is due.",
			given().schedule(30 * day).rotated().wait(29 * day),
			idle("nothing is due").at(30 * day)},
		{"Many missed firings make one rotation.",
			given().schedule(30 * day).rotated().wait(400 * day).rotated(),
			idle("nothing is due").at(420 * day)},
		{"No two scheduled rotations are closer than the floor.",
			given().schedule(day).with(func(p *key.Policy) { p.Floor = 30 * day }).rotated().wait(2 * day),
			idle("nothing is due").at(30 * day)},
		{"A request does not wait for the floor.",
			given().with(func(p *key.Policy) { p.Floor = 30 * day }).rotated().asked(),
			by("due", plan.Reserve, "a drill").of(2)},
		{"A spent budget makes a request wait.",
			given().with(func(p *key.Policy) { p.Budget = 1 }).rotated().asked(),
			by("due", plan.Wait, "the budget of 1").at(day)},
		{"A compromise does not wait for the budget.",
			given().with(func(p *key.Policy) { p.Budget = 1 }).rotated().compromised(),
			by("due", plan.Reserve, "a stolen backup").of(2)},
		{"A compromise comes before an earlier request.",
			given().rotated().asked().compromised(),
			by("due", plan.Reserve, "a stolen backup").of(2)},
		{"A firing whose window is over waits for the next one.",
			given().schedule(30 * day).with(func(p *key.Policy) { p.Window = time.Hour }).rotated().
				wait(30*day + 2*time.Hour),
			idle("nothing is due").at(60 * day)},
		{"Inside its window the rotation begins.",
			given().schedule(30 * day).with(func(p *key.Policy) { p.Window = time.Hour }).rotated().wait(30 * day),
			by("due", plan.Reserve, "schedule @every").of(2)},
		{"The spread delays a key by its own fixed share.",
			given().schedule(30 * day).with(func(p *key.Policy) { p.Spread = 10 * time.Hour }).rotated().wait(29 * day),
			idle("nothing is due").at(30*day + share)},
		{"The schedule waits while a vault's clock differs by more than 5 minutes.",
			given().schedule(30*day).rotated().wait(31*day).skewed(neu, -301*time.Second),
			by("due", plan.Wait, "the local clock differs").again(time.Minute)},
		{"5 minutes are allowed.",
			given().schedule(30*day).rotated().wait(31*day).skewed(neu, -300*time.Second),
			by("due", plan.Reserve, "schedule @every").of(2)},
		{"A request does not wait for the clock.",
			given().rotated().asked().skewed(neu, time.Hour),
			by("due", plan.Reserve, "a drill").of(2)},
		{"The schedule waits while no vault can be seen.",
			given().schedule(30 * day).rotated().wait(31 * day).away(weu).away(neu),
			by("due", plan.Wait, "before keyd can see a vault").again(30 * time.Second)},
		{"One vault that can be seen is enough to begin.",
			given().schedule(30 * day).rotated().wait(31 * day).away(weu),
			by("due", plan.Reserve, "schedule @every").of(2)},
		{"A request begins although no vault can be seen.",
			given().rotated().asked().away(weu).away(neu),
			by("due", plan.Reserve, "a drill").of(2)},
		{"A Managed HSM with 95 versions of the key begins no rotation.",
			given(mhsm).rotated().asked().full(mhsm),
			by("due", plan.Wait, "allows at most 100").again(time.Hour)},
		{"A request that leaves this vault out begins.",
			given(weu, mhsm).rotated().asked(mhsm).full(mhsm),
			by("due", plan.Reserve, "a drill").of(2)},
		{"No other rotation begins while one is under way.",
			given().rotated().pinned().proven(2, weu).asked(),
			by("placement", plan.Import, "does not have").of(2).in(neu).because(key.CauseRotation)},
		{"After a lost pair was acknowledged, a request begins a new generation.",
			given().rotated().pinned().proven(2, weu).adoptedLost(2).asked(),
			by("due", plan.Reserve, "a drill").of(3)},
		{"A rotation that is due comes before a disabling that is open.",
			given().rotated().rotated().disabling(1).disabled(weu, 1).asked(),
			by("due", plan.Reserve, "a drill").of(3)},
		{"A rotation that is due comes before retiring.",
			given().disableAfter(30 * day).rotated().rotated().wait(31 * day).asked(),
			by("due", plan.Reserve, "a drill").of(3)},
	}
}

func openDisabling() []example {
	return []example{
		{"A disabling that the vault shows is recorded.",
			given().rotated().rotated().disabling(1).disabled(weu, 1),
			by("open-disabling", plan.DisableDone, "now shows").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A disabling that does not show when its time is over did not happen.",
			given().rotated().rotated().disabling(1).wait(7 * time.Minute),
			by("open-disabling", plan.DisableAborted, "its time is over").of(1).in(weu).ofAttempt(1)},
		{"Until then it stays open.",
			given().rotated().rotated().disabling(1).wait(5 * time.Minute),
			idle("nothing is due")},
		{"The vault's clock counts: a local clock that jumps ahead ends nothing.",
			given().rotated().rotated().disabling(1).wait(time.Hour).skewed(weu, -time.Hour),
			idle("nothing is due")},
		{"A disabling in a vault that is away stays open.",
			given().rotated().rotated().disabling(1).wait(time.Hour).away(weu),
			idle("nothing is due")},
		{"A disabling in a vault that the last look did not include stays open.",
			given().rotated().rotated().disabling(1).wait(time.Hour).notIncluded(weu),
			idle("nothing is due")},
		{"Of two versions of one material one is disabled: while the time lasts it stays open.",
			given().rotated().aliased(1, weu).rotated().disablingAll(1).disabled(weu, 1),
			idle("nothing is due")},
		{"Of two versions of one material one is disabled once the time is over: keyd records that one.",
			given().rotated().aliased(1, weu).rotated().disablingAll(1).disabled(weu, 1).wait(time.Hour),
			by("open-disabling", plan.DisableDone, "now shows").of(1).in(weu).ofAttempt(1)},
		{"What was recorded before does not count as the result of the next disabling.",
			given().rotated().aliased(1, weu).rotated().retired(1).disabled(weu, 1).disabling(1).
				wait(time.Hour),
			by("open-disabling", plan.DisableAborted, "its time is over").of(1).in(weu).ofAttempt(1)},
		{"Finding out comes before the destruction of a given-up pair.",
			givenUp().rotated().disabling(1).disabled(weu, 1),
			by("open-disabling", plan.DisableDone, "now shows").of(1).in(weu).ofAttempt(1)},
	}
}

// givenUp has a finished generation, and a pair that was given up before it.
func givenUp() *world {
	return given().reserved().begun().made().abandoned().filled().proven(1, weu).proven(1, neu).finished(1)
}

func abandonedID() []example {
	return []example{
		{"A pair under a given-up id is destroyed.",
			givenUp(),
			by("abandoned-id", plan.Sweep, "a test").of(1)},
		{"Only after the generation has another pair, and is placed.",
			given().reserved().begun().made().abandoned().filled(),
			by("placement", plan.Import, "does not have").of(1).in(weu).because(key.CauseRotation)},
		{"A destruction that was cut short is completed.",
			givenUp().destroyBegun(1).destroyed(1),
			by("abandoned-id", plan.Sweep, "a test").of(1)},
		{"If nothing is left, nothing is destroyed.",
			givenUp().destroyed(1),
			idle("nothing is due")},
		{"Nothing is destroyed while the HSM cannot be used, and keyd does not wait for that.",
			givenUp().noHSM(),
			idle("nothing is due")},
		{"The destruction comes before retiring, which a vault may refuse for ever.",
			givenUp().disableAfter(30 * day).rotated().wait(31 * day),
			by("abandoned-id", plan.Sweep, "a test").of(1)},
	}
}

func noMaterial(s *record.VaultSeen) { s.Material = nil }

func noClock(s *record.VaultSeen) { s.SkewSeen = false }

// behind has a generation that is not in the Managed HSM.
func behind() *world { return given(weu, mhsm).pinned(mhsm).proven(1, weu).finished(1) }

// recovered: the Managed HSM shows nothing, and a hold was lifted. The vault may not show yet what was recovered.
func recovered(w *world) *world {
	return w.held(key.HoldKeyDeleted).emptied(mhsm).resumed()
}

// leftOut has two generations that are not in the Managed HSM. The first has been superseded for 31 days.
func leftOut(w *world) *world {
	return w.pinned(mhsm).proven(1, weu).finished(1).pinned(mhsm).proven(2, weu).finished(2).wait(31 * day)
}

func recovering() []example {
	return []example{
		{"After a hold, keyd does not trust at once a Managed HSM that shows nothing.",
			recovered(behind()),
			by("recovering", plan.Wait, "may not show yet what was recovered").of(1).in(mhsm).again(30 * time.Second)},
		{"It trusts it after the settle time of 10 minutes.",
			recovered(behind()).wait(9 * time.Minute),
			by("placement", plan.Import, "does not have").of(1).in(mhsm).because(key.CauseRotation)},
		{"A rotation under way waits for that, too.",
			recovered(given(mhsm).pinned()),
			by("placement", plan.Wait, "may not show yet what was recovered").of(1).again(30 * time.Second)},
		{"All other work goes on meanwhile.",
			recovered(behind()).asked(),
			by("due", plan.Reserve, "a drill").of(2)},
		{"Retiring goes on meanwhile.",
			recovered(leftOut(given(weu, mhsm).disableAfter(30 * day))).wait(5 * time.Minute),
			by("retirement", plan.Disable, "disable_after").of(1).in(weu).ofAttempt(1)},
		{"Without a hold there is nothing to wait for.",
			behind().emptied(mhsm),
			by("placement", plan.Import, "does not have").of(1).in(mhsm).because(key.CauseRotation)},
		{"A vault that is new in the configuration has nothing to hide.",
			given(weu).rotated().held(key.HoldPaused).resumed().nowIn(weu, mhsm).emptied(mhsm),
			by("placement", plan.Import, "does not have").of(1).in(mhsm).because(key.CauseNewVault)},
		{"A Key Vault is trusted at once.",
			given().pinned(neu).proven(1, weu).finished(1).held(key.HoldPaused).emptied(neu).resumed(),
			by("placement", plan.Import, "does not have").of(1).in(neu).because(key.CauseRotation)},
	}
}

func nothing() []example {
	return []example{
		{"A finished key without a schedule stays as it is.",
			given().rotated(),
			idle("nothing is due")},
		{"A finished key with a schedule stays as it is until the schedule fires.",
			given().schedule(90 * day).rotated(),
			idle("nothing is due").at(90 * day)},
		{"A generation with a lost pair that is active in only one vault stays so until the next rotation.",
			given().schedule(90*day).rotated().pinned().proven(2, weu).adoptedLost(2),
			idle("generation 2 can go into no other vault any more").at(90 * day)},
	}
}
