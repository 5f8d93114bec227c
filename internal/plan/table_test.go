package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// chapter has the examples of one rule: where it answers, where it must not, and which rule comes before it.
type chapter struct {
	rule     string // "": no rule answers
	examples []example
}

// table has a chapter for each rule, in their order. Attempts and versions are numbered in the order in which they
// are made: after rotated() in weu and neu they are 1 in weu and 2 in neu, after the next one 3 and 4.
func table() []chapter {
	return []chapter{
		{"enabling", enabling()},
		{"consent", consent()},
		{"held", held()},
		{"retained", retained()},
		{"unseen", unseen()},
		{"own-versions", ownVersions()},
		{"late-disabling", lateDisabling()},
		{"contradiction", contradiction()},
		{"replaced", replaced()},
		{"refutation", refutation()},
		{"leftover", leftover()},
		{"pair", pair()},
		{"placement", placement()},
		{"finished", finished()},
		{"due", append(due(), dueWithSpares()...)},
		{"open-disabling", openDisabling()},
		{"abandoned-id", abandonedID()},
		{"spares", spares()},
		{"repointing", repointing()},
		{"replacing", replacing()},
		{"retirement", append(retirement(), unused()...)},
		{"recovering", recovering()},
		{"retirement-waits", append(retirementWaits(), usersInTheWay()...)},
		{"", nothing()},
	}
}

func held() []example {
	return []example{
		{"A held key does nothing, whatever is requested.",
			given().rotated().asked().held(key.HoldPaused),
			by("held", plan.Idle, "held: a test")},
		{"A hold also stops disabling.",
			given().disableAfter(30 * day).rotated().rotated().wait(31 * day).held(key.HoldForeign),
			by("held", plan.Idle, "held: a test")},
		{"A hold needs no look.",
			given().held(key.HoldRecordBehind).notLooked(),
			by("held", plan.Idle, "held: a test")},
		{"After an operator resumed the key, the requested rotation goes on.",
			given().rotated().asked().held(key.HoldPaused).resumed(),
			by("due", plan.Reserve, "a drill").of(2)},
	}
}

func retained() []example {
	return []example{
		{"A key that left the configuration is not rotated.",
			given().schedule(30 * day).rotated().wait(31 * day).retained(),
			by("retained", plan.Idle, "not in the configuration")},
		{"A key that left the configuration is not disabled.",
			given().with(disabledAfter(30 * day)).rotated().rotated().wait(31 * day).retained(),
			by("retained", plan.Idle, "not in the configuration")},
		{"A rotation under way stops when the key leaves the configuration.",
			given().rotated().pinned().proven(2, weu).retained(),
			by("retained", plan.Idle, "not in the configuration")},
		{"It needs no look.",
			given().rotated().retained().notLooked(),
			by("retained", plan.Idle, "not in the configuration")},
		{"A hold of such a key comes first.",
			given().rotated().retained().held(key.HoldPaused),
			by("held", plan.Idle, "held: a test")},
	}
}

func unseen() []example {
	return []example{
		{"A new key is looked at before anything is made for it.",
			given().notLooked(),
			by("unseen", plan.Look, "has not looked")},
		{"A request waits for the first look.",
			given().rotated().asked().notLooked(),
			by("unseen", plan.Look, "has not looked")},
		{"Once keyd has looked, the new key gets its first generation.",
			given(),
			by("due", plan.Reserve, "no generation yet").of(1)},
	}
}

func ownVersions() []example {
	return []example{
		{"An import whose answer was lost is recorded once the listing shows its version.",
			given().pinned().sent(1, weu).shows(1, weu),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"The material alone is enough if the tag is gone.",
			given().pinned().sent(1, weu).lists(weu, "", material(1)),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"The tag alone is enough if the vault does not show the material.",
			given().pinned().sent(1, weu).lists(weu, attempt(1), key.Material{}),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A second version of the same material becomes an alias.",
			given().rotated().lists(weu, "", material(1)),
			by("own-versions", plan.Alias, "the same material again").of(1).in(weu).ofAttempt(1).ofVersion(3)},
		{"A copied tag does not make other material keyd's own.",
			given().rotated().lists(weu, attempt(1), material(99)),
			holds("contradiction", key.HoldForeign, "is not keyd's").in(weu)},
		{"An import of unknown outcome stays open until its deadline and the vault's settle time of 2 minutes " +
			"are over.",
			given().pinned().sent(1, weu).wait(time.Minute),
			by("placement", plan.Wait, "does not know yet").of(1).in(weu).ofAttempt(1).again(15 * time.Second)},
		{"A complete listing that begins after that and lacks the version makes the attempt void.",
			given().pinned().sent(1, weu).wait(2 * time.Minute),
			by("own-versions", plan.Void, "does not show it").of(1).in(weu).ofAttempt(1)},
		{"In a Managed HSM, 9 minutes after the deadline are too few.",
			given(mhsm).pinned().sent(1, mhsm).wait(9 * time.Minute),
			by("placement", plan.Wait, "does not know yet").of(1).in(mhsm).again(15 * time.Second)},
		{"In a Managed HSM, 10 minutes after the deadline are enough.",
			given(mhsm).pinned().sent(1, mhsm).wait(10 * time.Minute),
			by("own-versions", plan.Void, "does not show it").of(1).in(mhsm).ofAttempt(1)},
		{"The vault's clock must agree: a local clock that jumps ahead voids nothing.",
			given(weu).pinned().sent(1, weu).wait(time.Hour).skewed(weu, -time.Hour),
			by("placement", plan.Wait, "does not know yet").of(1).in(weu).ofAttempt(1).again(15 * time.Second)},
		{"The local clock must agree: a vault's clock that jumps ahead voids nothing.",
			given(weu).pinned().sent(1, weu).skewed(weu, time.Hour),
			by("placement", plan.Wait, "does not know yet").of(1).in(weu).ofAttempt(1).again(15 * time.Second)},
		{"A version that hides its material may be the one, without its tag: it voids nothing.",
			given(weu).pinned().sent(1, weu).wait(time.Hour).lists(weu, "", key.Material{}),
			holds("contradiction", key.HoldForeign, "is not keyd's").in(weu)},
		{"A soft-deleted key lists nothing, which voids nothing.",
			given().pinned().sent(1, weu).wait(time.Hour).sees(weu, func(s *record.VaultSeen) { s.Deleted = true }),
			holds("contradiction", key.HoldKeyDeleted, "soft-deleted").in(weu)},
		{"A listing that lacks what the vault had is not complete, and voids nothing.",
			given().rotated().pinned().sent(2, weu).wait(time.Hour).emptied(weu),
			holds("contradiction", key.HoldVersionsMissing, "no longer shows").in(weu)},
		{"An attempt stays open while its vault cannot be seen.",
			given().pinned().sent(1, weu).wait(time.Hour).away(weu),
			by("placement", plan.Import, "does not have").of(1).in(neu).because(key.CauseRotation)},
		{"A void attempt that lands after all is recorded.",
			given().pinned().sent(1, weu).wait(time.Hour).voided().shows(1, weu),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A tag alone speaks for its own attempt: a damaged version of a void attempt is not taken for the open one.",
			given().pinned().sent(1, weu).wait(time.Hour).voided().sent(1, weu).damagedLate(1, weu),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A damaged version of a void attempt is recorded although a later attempt succeeded.",
			given().pinned().sent(1, weu).wait(time.Hour).voided().proven(1, weu).damagedLate(1, weu),
			by("own-versions", plan.Land, "shows the import").of(1).in(weu).ofAttempt(1).ofVersion(2)},
	}
}

func contradiction() []example {
	return []example{
		{"A pair in the HSM that the record does not know holds the key: the record is an old copy.",
			given().rotated().object("ffffffffffffffffffffffffffffffff", 2, false),
			holds("contradiction", key.HoldRecordBehind, "does not know")},
		{"A pair that nobody reserved since the audit chain began holds the key, and is no sign of an old record.",
			given().rotated().object("ffffffffffffffffffffffffffffffff", 2, false).late(),
			holds("contradiction", key.HoldUnreserved, "nobody reserved it")},
		{"A pair under a given-up id holds the key if it was wrapped for a vault.",
			given().reserved().begun().abandoned().object("00000000000000000000000000000001", 1, false),
			holds("contradiction", key.HoldRecordBehind, "does not know")},
		{"A pair under a given-up id holds nothing if it was never wrapped.",
			given().reserved().begun().made().abandoned(),
			by("leftover", plan.Sweep, "a test").of(1)},
		{"A pair that is gone from the HSM holds the key.",
			given().rotated().lost(1),
			holds("contradiction", key.HoldObjectMissing, "is not in the HSM")},
		{"A pair that was altered in the HSM holds the key.",
			given().rotated().spoiled(),
			holds("contradiction", key.HoldObjectMissing, "CKA_SENSITIVE is false")},
		{"A pair that was exchanged for another in the HSM holds the key.",
			given().rotated().exchanged(),
			holds("contradiction", key.HoldObjectMissing, "is not the pair that was pinned")},
		{"A lost pair that an operator acknowledged holds nothing.",
			given().rotated().adoptedLost(1),
			idle("nothing is due")},
		{"An HSM that cannot be used contradicts nothing.",
			given().rotated().noHSM(),
			idle("nothing is due")},
		{"A soft-deleted key is held.",
			given().rotated().sees(neu, func(s *record.VaultSeen) { s.Deleted = true }),
			holds("contradiction", key.HoldKeyDeleted, "az keyvault key recover --vault-name contoso-neu").in(neu)},
		{"A version that a vault no longer lists holds the key.",
			given().rotated().wait(time.Hour).emptied(weu),
			holds("contradiction", key.HoldVersionsMissing, "no longer shows").in(weu)},
		{"A version that was made just now may be missing from the listing.",
			given(mhsm).pinned().proven(1, mhsm).emptied(mhsm),
			by("finished", plan.Finish, "active in every vault").of(1)},
		{"A vault that cannot be seen contradicts nothing.",
			given().rotated().wait(time.Hour).away(weu).away(neu),
			idle("nothing is due")},
		{"A name that was taken before the first import holds the key.",
			given().pinned().foreign(weu),
			holds("contradiction", key.HoldNameTaken, "did not make").in(weu)},
		{"A foreign newest version holds the key, although a rotation is requested.",
			given().rotated().asked().foreign(weu),
			holds("contradiction", key.HoldForeign, "is not keyd's").in(weu)},
		{"While the HSM cannot be asked, keyd calls no version foreign: it waits, and imports nothing.",
			given().rotated().asked().noHSM().foreign(weu),
			by("contradiction", plan.Wait, "cannot ask the HSM").in(weu).again(30 * time.Second)},
		{"Nor does it call a name taken.",
			given().noHSM().foreign(weu),
			by("contradiction", plan.Wait, "cannot ask the HSM").in(weu).again(30 * time.Second)},
		{"A key that is deleted in another vault holds the key all the same.",
			given().rotated().noHSM().foreign(weu).emptied(neu).sees(neu, func(s *record.VaultSeen) {
				s.Deleted = true
			}),
			holds("contradiction", key.HoldKeyDeleted, "soft-deleted").in(neu)},
		{"A foreign version that is not the newest holds nothing.",
			given().rotated().foreign(weu).newest(weu, 1),
			idle("nothing is due")},
		{"A version with this instance's tag that the record does not know holds the key.",
			given().rotated().foreign(weu).sees(weu, func(s *record.VaultSeen) {
				s.Versions[1].Tags[key.TagInstance] = us
			}),
			holds("contradiction", key.HoldRecordBehind, "made by this instance").in(weu)},
	}
}

func refutation() []example {
	lateOver := func(v key.Vault) *world {
		return given(v).pinned().sent(1, v).wait(time.Hour).voided().proven(1, v).refutedLateOf(1, v)
	}
	return []example{
		{"After a refuted proof the previous generation is imported again, in that vault only.",
			given().rotated().pinned().refuted(2, weu),
			by("refutation", plan.Import, "generation 2 was refuted").of(1).in(weu).because(key.CauseRollback)},
		{"That import is proven.",
			given().rotated().pinned().refuted(2, weu).importedFor(key.CauseRollback, 1, weu),
			by("refutation", plan.Prove, "imported").of(1).in(weu).because(key.CauseRollback)},
		{"Then the key is held.",
			given().rotated().pinned().refuted(2, weu).provenFor(key.CauseRollback, 1, weu),
			holds("refutation", key.HoldRefuted, "the newest there again").in(weu)},
		{"Also where an adoption found the good one again, and somebody has disabled it meanwhile.",
			given().rotated().pinned().refuted(2, weu).provenFor(key.CauseRollback, 1, weu).foundDisabled(4),
			holds("refutation", key.HoldRefuted, "the newest there again").in(weu)},
		{"If the vault shows the refuted version as its newest, keyd goes back once more before that.",
			given().rotated().pinned().refuted(2, weu).provenFor(key.CauseRollback, 1, weu).foundDisabled(4).
				newest(weu, 3),
			by("refutation", plan.Import, "generation 2 was refuted").of(1).in(weu).because(key.CauseRollback)},
		{"keyd goes back to the refuted generation itself, where an earlier version of it was proven.",
			given(weu).rotated().rotated().refuted(2, weu),
			by("refutation", plan.Import, "generation 2 was refuted").of(2).in(weu).because(key.CauseRollback)},
		{"Then the key is held, too.",
			given(weu).rotated().rotated().refuted(2, weu).provenFor(key.CauseRollback, 2, weu),
			holds("refutation", key.HoldRefuted, "of the same generation 2 was proven").in(weu)},
		{"Without a previous generation the key is held at once.",
			given().pinned().refuted(1, weu),
			holds("refutation", key.HoldRefuted, "nothing to go back to").in(weu)},
		{"A compromised generation is nothing to go back to.",
			given().rotated().compromised().pinned().refuted(2, weu),
			holds("refutation", key.HoldRefuted, "nothing to go back to").in(weu)},
		{"A generation whose pair is lost is nothing to go back to.",
			given().rotated().adoptedLost(1).pinned().refuted(2, weu),
			holds("refutation", key.HoldRefuted, "nothing to go back to").in(weu)},
		{"keyd goes back once, and no further if that generation is refuted, too.",
			given().rotated().rotated().pinned().refuted(3, weu).refutedRollback(2, weu),
			holds("refutation", key.HoldRefuted, "nothing to go back to").in(weu)},
		{"Going back waits for the HSM.",
			given().rotated().pinned().refuted(2, weu).noHSM(),
			by("refutation", plan.Wait, "the HSM cannot be used").of(1).in(weu).again(30 * time.Second)},
		{"A refuted generation that is now compromised is not rolled back: new material comes instead.",
			given().rotated().pinned().refuted(2, weu).compromised(),
			by("due", plan.Reserve, "a stolen backup").of(3)},
		{"After an operator resumed the key, the refuted generation is tried there once more.",
			given().rotated().pinned().refuted(2, weu).provenFor(key.CauseRollback, 1, weu).
				held(key.HoldRefuted).resumed(),
			by("placement", plan.Import, "does not have").of(2).in(weu).because(key.CauseRotation)},
		{"A contradiction of the record comes before going back.",
			given().rotated().pinned().refuted(2, weu).lost(1),
			holds("contradiction", key.HoldObjectMissing, "is not in the HSM")},
		{"Going back waits for the key exchange key in use.",
			given().rotated().pinned().refuted(2, weu).refusedKEK(weu),
			by("refutation", plan.Wait, "not the pinned one").of(1).in(weu).again(30 * time.Second)},
		{"Going back comes before what an earlier try left in the HSM.",
			given().rotated().pinned().sent(2, weu).voided().adoptedLost(2).reserved().begun().made().abandoned().
				refutedLate(2, weu),
			by("refutation", plan.Import, "generation 2 was refuted").of(1).in(weu).because(key.CauseRollback)},
		{"Going back comes before the pair of the next generation.",
			given().rotated().pinned().sent(2, weu).voided().adoptedLost(2).reserved().refutedLate(2, weu),
			by("refutation", plan.Import, "generation 2 was refuted").of(1).in(weu).because(key.CauseRollback)},
		{"A late duplicate of what was refuted is rolled back again before the key is held.",
			given().rotated().pinned().refuted(2, weu).provenFor(key.CauseRollback, 1, weu).wait(time.Hour).
				newest(weu, 3),
			by("refutation", plan.Import, "is not the intended generation").of(1).in(weu).because(key.CauseRollback)},
		{"A refuted version that landed late over a good one of its generation is rolled back, too.",
			lateOver(weu).wait(time.Hour),
			by("refutation", plan.Import, "is not the intended generation").of(1).in(weu).because(key.CauseRollback)},
		{"keyd waits before it goes back while the answer may be stale, and does not hold the key yet.",
			lateOver(mhsm),
			by("refutation", plan.Wait, "may be a stale answer").of(1).in(mhsm).again(30 * time.Second)},
	}
}

func leftover() []example {
	gaveUp := func() *world { return given().reserved().begun().made().abandoned() }
	return []example{
		{"What an earlier try left in the HSM is destroyed before the next pair is made.",
			gaveUp(),
			by("leftover", plan.Sweep, "a test").of(1)},
		{"Then the next pair is made.",
			gaveUp().destroyed(1),
			by("pair", plan.Generate, "reserved").of(1)},
		{"If the HSM does not destroy it, keyd tries only once: the pair is needed all the same.",
			gaveUp().destroyBegun(1),
			by("pair", plan.Generate, "reserved").of(1)},
		{"Once the next pair is begun, keyd looks for that first.",
			gaveUp().begun(),
			by("pair", plan.Abandon, "the HSM has none").of(1)},
		{"Nothing is destroyed while the HSM cannot be used.",
			gaveUp().noHSM(),
			by("pair", plan.Wait, "the HSM cannot be used").of(1).again(30 * time.Second)},
	}
}

func pair() []example {
	return []example{
		{"A reserved generation gets its pair.",
			given().reserved(),
			by("pair", plan.Generate, "reserved").of(1)},
		{"A whole pair that keyd began to make is pinned, also after a crash.",
			given().reserved().begun().made(),
			by("pair", plan.Pin, "the pair is whole").of(1)},
		{"keyd never generates twice under one id: if it began and there is no pair, the id is given up.",
			given().reserved().begun(),
			by("pair", plan.Abandon, "the HSM has none").of(1)},
		{"A pair that does not read back as asked is given up.",
			given().reserved().begun().made().spoiled(),
			by("pair", plan.Abandon, "no single whole pair").of(1)},
		{"Two pairs under one id are given up.",
			given().reserved().begun().made().made(),
			by("pair", plan.Abandon, "no single whole pair").of(1)},
		{"A pair that the record did not ask for is given up.",
			given().reserved().made(),
			by("pair", plan.Abandon, "did not ask for").of(1)},
		{"A pair that was wrapped for a vault before it was pinned is never given up: the record is behind.",
			given().reserved().begun().object("00000000000000000000000000000001", 1, false),
			holds("pair", key.HoldRecordBehind, "was wrapped for a vault")},
		{"The pair waits for the HSM.",
			given().reserved().noHSM(),
			by("pair", plan.Wait, "the HSM cannot be used").of(1).again(30 * time.Second)},
		{"The pair comes before a vault that lacks an earlier generation.",
			given(weu).rotated().reserved().nowIn(weu, neu),
			by("pair", plan.Generate, "reserved").of(2)},
		{"A pair is made even while a vault is away: it does not leave the HSM.",
			given().reserved().away(weu),
			by("pair", plan.Generate, "reserved").of(1)},
	}
}
