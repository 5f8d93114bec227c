package plan_test

import (
	"errors"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// disabledAfter is a retire rule that nobody consented to.
func disabledAfter(d time.Duration) func(*key.Policy) {
	return func(p *key.Policy) { p.Retire.DisableAfter, p.Retire.NoConsumers = d, true }
}

func enabling() []example {
	asked := func() *world { return given().rotated().rotated().retired(1).disabled(weu, 1).toEnable(1) }
	return []example{
		{"A version that an operator asked for is enabled.",
			asked(),
			by("enabling", plan.Enable, "still reads under it").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"Even while the key is held.",
			asked().held(key.HoldPaused),
			by("enabling", plan.Enable, "still reads under it").of(1).in(weu).ofAttempt(1)},
		{"Before keyd has looked at the key.",
			asked().notLooked(),
			by("enabling", plan.Enable, "still reads under it").of(1).in(weu).ofAttempt(1)},
		{"It comes before the end of a consent.",
			asked().disableAfter(30 * day).with(disabledAfter(20 * day)),
			by("enabling", plan.Enable, "still reads under it").of(1).in(weu).ofAttempt(1)},
		{"Not in a vault that is no longer one of the key's.",
			asked().nowIn(neu),
			by("enabling", plan.EnableAborted, "no longer one of the key's").of(1).in(weu).ofAttempt(1)},
		{"keyd tries for 10 minutes.",
			asked().wait(8 * time.Minute),
			by("enabling", plan.Enable, "still reads under it").of(1).in(weu)},
		{"After that the other work goes on.",
			asked().wait(10 * time.Minute),
			by("", plan.Idle, "nothing is due")},
		{"Once a late call cannot do it any more, keyd gives it up.",
			asked().wait(22 * time.Minute),
			by("enabling", plan.EnableAborted, "in time").of(1).in(weu).ofAttempt(1)},
		{"If the vault shows the version enabled by then, the answer was lost: keyd records that.",
			asked().enabled(weu, 1).wait(10 * time.Minute),
			by("enabling", plan.EnableDone, "now it shows").of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A vault that does not answer says nothing of it.",
			asked().wait(22 * time.Minute).away(weu),
			by("", plan.Idle, "nothing is due")},
		{"Nor does keyd settle it before it has looked.",
			asked().wait(22 * time.Minute).notLooked(),
			by("enabling", plan.Look, "not looked at the key yet")},
	}
}

func consent() []example {
	changed := func() *world {
		return given().disableAfter(30 * day).rotated().rotated().with(disabledAfter(20 * day))
	}
	return []example{
		{"The consent to a rule ends when the rule changes.",
			changed(),
			by("consent", plan.EndConsent, "another one than the operator consented to")},
		{"Also when it becomes longer.",
			given().disableAfter(30 * day).rotated().with(disabledAfter(40 * day)),
			by("consent", plan.EndConsent, "another one than the operator consented to")},
		{"Even while the key is held.",
			changed().held(key.HoldPaused),
			by("consent", plan.EndConsent, "another one than the operator consented to")},
		{"It ends when the key leaves the configuration.",
			given().disableAfter(30 * day).rotated().with(disabledAfter(0)).retained(),
			by("consent", plan.EndConsent, "another one than the operator consented to")},
		{"It stands while the rule does.",
			given().disableAfter(30 * day).rotated(),
			idle("nothing is due")},
	}
}

// month: the key's first generation has been superseded for 30 days, and the rule says 30 days.
func month(vaults ...key.Vault) *world {
	return given(vaults...).disableAfter(30 * day).rotated().rotated().wait(30 * day)
}

func retirement() []example {
	disable := func() *want { return by("retirement", plan.Disable, "disable_after") }
	return []example{
		{"A version that was superseded everywhere for as long as the rule requires is disabled.",
			month(), disable().of(1).in(weu).ofAttempt(1).ofVersion(1)},
		{"A day after the last one, the next version of the same generation follows.",
			month().retired(1).disabled(weu, 1).wait(day), disable().of(1).in(neu).ofAttempt(2).ofVersion(2)},
		{"The next generation follows when the one before is disabled in every vault.",
			month().rotated().retired(1).disabled(weu, 1).wait(day).retired(2).disabled(neu, 2).wait(30 * day),
			disable().of(2).in(weu).ofAttempt(3).ofVersion(3)},
		{"Of two versions of one material, one is disabled after the other.",
			given(weu).disableAfter(30*day).rotated().aliased(1, weu).rotated().wait(31*day).retired(1).
				disabled(weu, 1).wait(day),
			disable().of(1).in(weu).ofAttempt(1).ofVersion(2)},
		{"What was begun goes on before another begins, without a pause.",
			month().disabling(2), disable().of(1).in(neu).ofAttempt(2).ofVersion(2)},
		{"A version that keyd has not tried yet goes before one that a vault did not disable.",
			month().disabling(1).aborted(1).wait(day), disable().of(1).in(neu).ofAttempt(2).ofVersion(2)},
		{"keyd records as its own what somebody else disabled and the rule covers.",
			month().disabled(neu, 2), disable().of(1).in(neu).ofAttempt(2).ofVersion(2)},
		{"A proof of the newest version that just passed is as good as one that is still to be made.",
			month().tried(weu, nil), disable().of(1).in(weu).ofAttempt(1)},
		{"A vault that cannot be seen does not hold up the same generation in another.",
			month().away(weu), disable().of(1).in(neu).ofAttempt(2)},
		{"A vault whose newest version has expired keeps its older ones.",
			month().sees(weu, func(s *record.VaultSeen) { s.Versions[1].Expires = began.Add(day) }),
			disable().of(1).in(neu).ofAttempt(2)},
		{"A vault whose newest version shows other material keeps its older ones.",
			month().sees(weu, func(s *record.VaultSeen) { s.Material = s.Material.With(s.Newest, material(99)) }),
			disable().of(1).in(neu).ofAttempt(2)},
		{"A vault whose newest version cannot be proven keeps its older ones.",
			month().tried(weu, errUnwrap), disable().of(1).in(neu).ofAttempt(2)},
		{"Without a rule nothing is ever disabled.",
			given().rotated().rotated().wait(4000 * day), idle("nothing is due")},
		{"The newest version is never disabled.",
			given().disableAfter(30 * day).rotated().wait(4000 * day), idle("nothing is due")},
		{"A generation that is still active in one vault is disabled in none.",
			given().disableAfter(30*day).rotated().pinned(neu).proven(2, weu).finished(2).wait(31 * day).away(neu),
			idle("nothing is due")},
		{"A compromised generation is not disabled because it is compromised.",
			given().disableAfter(30 * day).rotated().compromised().rotated().wait(29 * day),
			idle("nothing is due")},
		{"While a rotation is under way, nothing is disabled.",
			month().pinned().proven(3, weu).away(neu),
			by("placement", plan.Wait, "connection refused").of(3).again(30 * time.Second)},
	}
}

var errUnwrap = errors.New("the vault does not unwrap")

func retirementWaits() []example {
	waits := func(why string) *want { return by("retirement-waits", plan.Idle, why).of(1) }
	both := func(change func(*record.VaultSeen)) *world { return month().sees(weu, change).sees(neu, change) }
	return []example{
		{"A rule takes effect only after an operator's consent.",
			month().withoutConsent(),
			waits("an operator must consent to the retire rule: keyd retire sa-cmk-key").in(weu)},
		{"The consent does not cover a version that was superseded before and that it does not list.",
			given().rotated().rotated().disableAfter(30 * day).unlisted().wait(31 * day),
			waits("does not list the version").in(weu)},
		{"The time of the rule must be over.",
			given().disableAfter(30 * day).rotated().rotated().wait(29 * day),
			waits("the retire rule allows it at").in(weu).at(deactivated + 30*day)},
		{"The vault's clock counts, too: what a wrong local clock wrote down does not disable anything early.",
			given().disableAfter(30*day).rotated().skewed(weu, 20*day).skewed(neu, 20*day).rotated().
				skewed(weu, 0).skewed(neu, 0).wait(31 * day),
			waits("the retire rule allows it at").in(weu).at(importedAgain + 50*day)},
		{"One version of a key a day, in whatever vaults.",
			month().retired(1).disabled(weu, 1).wait(day - 3*time.Minute),
			waits("keyd disabled another version at").in(neu).at(disabledAt + day)},
		{"Where the record lacked changes, a disabling may be among them: the day begins anew.",
			month().doubted(), waits("a disabling may be among them").in(weu).again(day - time.Minute)},
		{"The day must be over by the vault's clock, too.",
			month().skewed(weu, 4*time.Minute).retired(1).disabled(weu, 1).wait(day),
			waits("by the clock of vault neu").in(neu)},
		{"keyd tries for ten minutes, and then waits until it knows what came of it.",
			month().disabling(2).wait(8 * time.Minute).disabling(2).wait(2 * time.Minute),
			waits("does not know yet whether vault neu disabled version b").in(weu)},
		{"Nothing else is disabled before keyd knows what came of the last one.",
			month().disabling(2).away(neu), waits("vault neu: connection refused").in(neu)},
		{"Nothing is disabled while the HSM cannot be used.",
			month().noHSM(), waits("the HSM cannot be used: the PIN was refused").in(weu)},
		{"Nothing is disabled while the newest version cannot be proven.",
			given(weu).disableAfter(30*day).rotated().rotated().wait(30*day).tried(weu, errUnwrap),
			waits("was not proven at").in(weu).again(key.MaxSkew + plan.LookTimeout + time.Second)},
		{"Nothing is disabled after somebody else disabled a version that the rule does not cover.",
			month().disabled(weu, 3), waits("somebody other than keyd disabled version b").in(weu)},
		{"Nothing is disabled where the HSM has lost the newest generation.",
			month().adoptedLost(2), waits("the HSM has lost generation 2").in(weu)},
		{"What a vault calls its newest version is not disabled, although it is old and cannot be replaced.",
			given(weu).disableAfter(30*day).rotated().rotated().wait(30*day).adoptedLost(2).newest(weu, 1).
				sees(weu, noMaterial),
			waits("is not the one that keyd placed there last").in(weu)},
		{"Nothing is disabled in a vault that cannot be seen.",
			month().away(weu).away(neu), waits("vault weu: connection refused").in(weu)},
		{"Nothing is disabled while the vault's clock differs by more than 5 minutes.",
			month().skewed(weu, time.Hour).skewed(neu, -time.Hour), waits("the clock of vault weu").in(weu)},
		{"Nothing is disabled while the vault's clock is unknown.",
			both(noClock), waits("the clock of vault weu").in(weu)},
		{"What keeps a Managed HSM from an import is said first.",
			recovered(leftOut(given(weu, mhsm).with(disabledAfter(30 * day)))).wait(5 * time.Minute),
			by(
				"recovering",
				plan.Wait,
				"may not show yet what was recovered",
			).of(1).
				in(mhsm).
				again(30 * time.Second),
		},
		{"A rotation that comes first is what keyd waits for.",
			given().schedule(60 * day).disableAfter(90 * day).rotated().rotated(),
			waits("the retire rule allows it at").in(weu).at(60 * day)},
	}
}

// When the first generation was deactivated, and when the vault made the second's version, after given() began.
const (
	deactivated      = 19 * time.Minute
	importedAgain    = 14 * time.Minute
	deactivatedAlone = 13 * time.Minute                   // in one vault
	disabledAt       = deactivated + time.Minute + 30*day // of a disabling in the first minute that the rule allows
)
