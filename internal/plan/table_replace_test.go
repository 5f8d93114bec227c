package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

const newName = "sa-cmk-key-2"

// replacedBy: an operator has the key replaced by another one, which is active in weu, and keyd has just looked at
// those who use it.
func (w *world) replacedBy(heir *world) *world {
	heir.policy.Key, heir.record.Key = newName, newName
	heir.clock = w.clock
	w.heir = heir
	w.must(w.record.BeginReplace(record.Replacement{With: newName, At: w.clock, By: "uid 0 (root)"}))
	return w.lookedAgain()
}

// there is a resource that was set to the new key, uses a version of it since three days ago, and follows it or not.
func there(c record.ConsumerSeen, n int) record.ConsumerSeen {
	c.Key, c.Uses = newName, version(n)
	if c.Asked != "" {
		c.Asked = version(n)
	}
	return c
}

// movedAway: keyd has set a consumer to the new key.
func (w *world) movedAway(id string) *world {
	w.must(w.record.BeginRepoint(record.Repointing{Consumer: id, Vault: weu.URL, Version: version(1), NewKey: newName,
		NewVault: weu.URL, At: w.clock}))
	return w.must(w.record.Repointed(w.clock))
}

// consentedToDisable: an operator consents to disable every version of the replaced key.
func (w *world) consentedToDisable() *world {
	c := record.Consent{Rule: plan.ReplaceRule(w.policy), At: w.clock, By: "uid 0 (root)"}
	for _, r := range w.record.Replaceable() {
		c.Versions = append(c.Versions, r.Version)
	}
	return w.must(w.record.ConsentToDisable(c))
}

// gone is a month after the only consumer, a storage account, was set to the new key, and the consent.
func gone() *world {
	w := monthIn(weu, there(on(storageID, 1), 1)).replacedBy(active()).movedAway(storageID).consentedToDisable()
	return w.wait(2 * day).lookedAgain()
}

func active() *world { return given(weu).rotated() }

func replacing() []example {
	move := func(id string) *want {
		return by("replacing", plan.Repoint, newName+" replaces the key").in(weu).user(id)
	}
	rests := func(why string) *want { return by("replacing", plan.Idle, why) }
	both := func() *world { return monthIn(weu, on(storageID, 2), pinned(aiID, 2)) }
	return []example{
		{"A consumer that follows by itself is set to the new key as well.",
			monthIn(weu, on(storageID, 2)).replacedBy(active()), move(storageID).ofVersion(1)},
		{"One after the other.", both().replacedBy(active()), move(aiID).ofVersion(1)},
		{"And the next, once the first is on the new key.",
			monthIn(weu, on(storageID, 2), there(pinned(aiID, 2), 1)).replacedBy(active()), move(storageID)},
		{"Not before the new key is active.", both().replacedBy(given(weu).pinned()),
			rests("is not active in every vault yet").again(time.Minute)},
		{"Nor while its newest version does not work.",
			both().replacedBy(active().disabled(weu, 1)), rests("is disabled, expired").again(time.Minute)},
		{"Nor while the configuration lacks the new key.",
			both().replacedBy(active()).withoutHeir(), rests("whom it can")},
		{"An AI account takes no key of 4096 bits: a person must find another way.",
			monthIn(weu, pinned(aiID, 2)).replacedBy(active().with(func(p *key.Policy) { p.Spec = key.RSA4096 })),
			rests("whom it can")},
		{"An AI account stays in its vault.",
			monthIn(weu, pinned(aiID, 2)).replacedBy(given(neu).rotated()), rests("whom it can")},
		{"A storage account may leave it.",
			monthIn(weu, on(storageID, 2)).replacedBy(given(neu).rotated()), move(storageID)},
		{"A resource that the configuration does not name is not moved.",
			monthIn(weu).with(discovers).uses(on(storageID, 2)).replacedBy(active()), rests("whom it can")},
		{"A look from before the replacement shows nobody.",
			both().replacedBy(active()).looked(func(u *record.Usage) { u.At = u.At.Add(-time.Hour) }),
			by("replacing", plan.Wait, "looks at those who use the key").again(time.Minute)},
		{"A move that failed stops the others.",
			both().replacedBy(active()).leaving(aiID, 2).repointFailed().lookedAgain(),
			by("retirement-waits", plan.Idle, "may need an old version").of(1).in(weu).again(time.Hour)},
		{"What came of a move that is open is found out first.",
			both().replacedBy(active()).leaving(aiID, 2).lookedAgain(),
			by("repointing", plan.Wait, "keyd moves consumer").again(time.Minute)},
		{"It happened once the consumer shows the new key.",
			monthIn(
				weu,
				there(pinned(aiID, 2), 1),
				on(storageID, 2),
			).replacedBy(active()).
				leaving(aiID, 2).
				lookedAgain(),
			by("repointing", plan.RepointDone, "shows the version").in(weu).user(aiID)},
		{"If it still shows the old one after half an hour, it failed.",
			both().replacedBy(active()).leaving(aiID, 2).wait(30 * time.Minute).lookedAgain(),
			by("repointing", plan.RepointFailed, "still shows key").in(weu).user(aiID)},
		{"No version is disabled by the retire rule meanwhile.",
			monthIn(weu, there(on(storageID, 2), 1)).replacedBy(active()).movedAway(storageID).wait(2 * day).
				lookedAgain(), rests("whom it can")},
	}
}

// leaving: keyd began to set a consumer to the new key.
func (w *world) leaving(id string, from int) *world {
	return w.must(w.record.BeginRepoint(record.Repointing{Consumer: id, Vault: weu.URL, From: version(from),
		Version: version(1), NewKey: newName, NewVault: weu.URL, At: w.clock}))
}

func (w *world) withoutHeir() *world { w.heir = nil; return w }

func replaced() []example {
	disable := func() *want { return by("replaced", plan.Disable, newName+" has replaced the key") }
	waits := func(why string) *want { return by("replaced", plan.Idle, why).of(1).in(weu) }
	return []example{
		{"Without consent nothing is disabled, however long ago the consumers left.",
			monthIn(weu, there(on(storageID, 1), 1)).replacedBy(active()).movedAway(storageID).wait(90 * day).
				lookedAgain(), by("replacing", plan.Idle, "whom it can")},
		{"With it, the oldest version goes first.", gone(), disable().of(1).in(weu).ofVersion(1)},
		{"The newest goes last.", gone().retired(1).disabled(weu, 1).wait(2 * day).lookedAgain(),
			disable().of(2).in(weu).ofVersion(2)},
		{"After that the replacement is over.",
			gone().retired(1).disabled(weu, 1).retired(2).disabled(weu, 2),
			by("replaced", plan.ReplaceDone, "every version")},
		{"Between two there is a pause.", gone().retired(1).disabled(weu, 1),
			by("replaced", plan.Idle, "disabled another version").of(2).in(weu).again(day - 2*time.Minute)},
		{"A storage account may need the old key for a day after it left.",
			monthIn(weu, there(on(storageID, 1), 1)).replacedBy(active()).movedAway(storageID).consentedToDisable().
				wait(time.Hour).lookedAgain(), waits("left the version at").again(day - time.Hour - 2*time.Minute)},
		{"A consumer that is set back to the old key keeps it enabled.",
			gone().lookedNow().uses(but(on(storageID, 2), func(c *record.ConsumerSeen) { c.Configured = true })),
			waits("is not seen to work").again(time.Hour)},
		{"And one that cannot be seen.",
			gone().lookedNow().uses(but(there(on(storageID, 1), 1), func(c *record.ConsumerSeen) {
				c.Configured, c.Err = true, errForbidden
			})), waits("is not seen to work").again(time.Hour)},
		{"And one on a version of the new key that keyd did not place.",
			gone().lookedNow().
				uses(but(there(on(storageID, 1), 7), func(c *record.ConsumerSeen) { c.Configured = true })),
			waits("which keyd did not place").again(time.Hour)},
		{"Where the new vault has a log, it must show a call by the consumer.",
			gone().heirLogged(""), waits("shows no call of its own").again(time.Hour)},
		{"One that succeeded is enough.", gone().heirLogged("oid of " + storageID), disable().of(1).in(weu)},
		{"A new key that does not work keeps the old one enabled.",
			gone().heirDisabled(), waits("is disabled, expired")},
		{"And one that is no longer in the configuration.",
			gone().withoutHeir(), waits("not in the configuration")},
		{"A rotation that is due does not begin any more.",
			gone().schedule(day), disable().of(1).in(weu)},
		{"What contradicts the record comes first.",
			gone().foreign(weu), holds("contradiction", key.HoldForeign, "is not keyd's").in(weu)},
		{"A refuted generation is not rolled back any more.",
			monthIn(
				weu,
				there(on(storageID, 1), 1),
			).replacedBy(active()).
				movedAway(storageID).
				pinned().
				refuted(3, weu).
				consentedToDisable().
				wait(2 * day).
				lookedAgain(),
			disable().of(1).in(weu)},
		{"A version that was disabled for good is not proven, repaired or imported again.",
			gone().retired(1).disabled(weu, 1).retired(2).disabled(weu, 2).over(),
			by("replaced", plan.Idle, "has replaced the key")},
		{"A replacement that is stopped leaves everything as it is.",
			gone().stopped(), by("retirement-waits", plan.Idle, "is set to key").of(1).in(weu).again(time.Hour)},
	}
}

// heirLogged: the vault of the new key has a workspace, whose log shows a call of one caller; "": of nobody.
func (w *world) heirLogged(caller string) *world {
	w.heir.with(func(p *key.Policy) { p.Workspaces = map[string]string{weu.URL: "w1"} })
	log := record.LogSeen{From: w.clock.Add(-60 * day), Until: w.clock.Add(-time.Hour)}
	if caller != "" {
		at := w.clock.Add(-time.Hour)
		log.Worked = map[string]map[string]record.Span{version(1): {caller: {First: at, Last: at}}}
	}
	w.heir.usage = record.Usage{At: w.clock, Logs: map[string]record.LogSeen{weu.URL: log}}
	return w
}

func (w *world) heirDisabled() *world { w.heir.disabled(weu, 1); return w }

func (w *world) over() *world { return w.must(w.record.Replaced(w.clock)) }

func (w *world) stopped() *world { return w.must(w.record.StopReplace()).lookedAgain() }
