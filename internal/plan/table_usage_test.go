package plan_test

import (
	"errors"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

var errForbidden = errors.New("403: no right to read it")

// unused: nobody needs the version any more, as far as keyd saw.
func unused() []example {
	disable := func() *want { return by("retirement", plan.Disable, "disable_after").of(1).in(weu).ofVersion(1) }
	left := func(c *record.ConsumerSeen) { c.Left = map[string]time.Time{version(1): threeDaysAgo.Add(-27 * day)} }
	return []example{
		{"A version that every consumer has left for its service's safe time is disabled.",
			monthIn(weu, on(storageID, 2)), disable()},
		{"What a search found counts, and nothing need be configured then.",
			monthIn(weu).with(discovers).looked(func(u *record.Usage) { u.At = threeDaysAgo }).uses(on(storageID, 2)),
			disable()},
		{"A consumer of another key that a search finds does not count.",
			monthIn(weu, on(storageID, 2)).
				uses(but(on(sqlID, 0), func(c *record.ConsumerSeen) { c.Key = "another" })), disable()},
		{"A consumer that stays on an old version in another vault of the key does not count there.",
			monthIn(
				weu,
				but(on(storageID, 0), func(c *record.ConsumerSeen) { c.Vault, c.Uses = neu.URL, version(77) }),
			).
				with(func(p *key.Policy) { p.Vaults = append(p.Vaults, neu) }).
				away(neu),
			disable()},
		{"Backups count from when the consumer left the version, and not from its last move.",
			monthIn(weu, but(on(sqlID, 2), left)).rule(backupsFor(20 * day)), disable()},
		{"Of a consumer that has always been in another vault they count from when it was first seen there, " +
			"however often the key is rotated.",
			given(weu, neu).disableAfter(30 * day).rotated().rotated().rotated().wait(40 * day).
				with(func(p *key.Policy) {
					p.Retire.NoConsumers, p.Consumers = false, []key.Consumer{{ID: sqlID}}
				}).rule(backupsFor(20 * day)).lookedNow().uses(but(on(sqlID, 6), func(c *record.ConsumerSeen) {
				c.Vault, c.Since = neu.URL, began.Add(39*day)
				c.Left = map[string]time.Time{version(2): began.Add(10 * day), version(4): began.Add(39 * day)}
			})), disable()},
		{"Of a consumer that was never seen on the version they count from when it was first on a later one.",
			given(weu).disableAfter(30 * day).rotated().rotated().rotated().wait(40 * day).with(func(p *key.Policy) {
				p.Retire.NoConsumers, p.Consumers = false, []key.Consumer{{ID: sqlID}}
			}).rule(backupsFor(20 * day)).lookedNow().uses(but(on(sqlID, 3), func(c *record.ConsumerSeen) {
				c.Since, c.Left = began.Add(39*day), map[string]time.Time{version(2): began.Add(10 * day)}
			})), disable()},
		{"A service whose safe time is not stated has shown a later version, and the log is quiet.",
			monthIn(weu, on(registryID, 2)).logged(), disable()},
		{"A service that does not show its version left it when it first used a later one.",
			monthIn(
				weu,
				on(serverID, 0),
			).rule(backupsFor(10 * day)).
				logged(use{version(2), "oid of " + serverID, time.Hour}).
				log(firstUse(version(2), "oid of "+serverID, 20*day)),
			disable()},
		{"A service that does not show its version has used a later one, and the log is quiet.",
			monthIn(weu, on(hubsID, 0)).logged(use{version(2), "oid of " + hubsID, time.Hour}), disable()},
		{"The last use in the log is as long ago as the rule requires.",
			monthIn(weu, on(storageID, 2)).rule(unusedFor(5 * day)).logged(use{version(1), "x", 5*day + time.Hour}),
			disable()},
		{"The log alone shows that nobody uses the version, and backups have had their time.",
			monthIn(weu).logged().rule(backupsFor(40 * day)), disable()},
		{"With the word that there are no consumers, keyd asks nobody.", month(weu), disable()},
	}
}

// usersInTheWay: somebody may still need the version.
func usersInTheWay() []example {
	waits := func(why string) *want { return by("retirement-waits", plan.Idle, why).of(1).in(weu) }
	soon := func(why string) *want { return waits(why).again(time.Hour) }
	one := func(id string, n int, change func(*record.ConsumerSeen)) *world {
		return monthIn(weu, but(on(id, n), change))
	}
	same := func(*record.ConsumerSeen) {}
	shared := func(c *record.ConsumerSeen) { c.Callers = []string{"shared"} }
	return []example{
		{"keyd must have a way to know who uses the key.",
			monthIn(weu), waits("keyd does not know who uses the key in vault weu")},
		{"keyd must have looked at who uses it.",
			monthIn(weu, on(storageID, 2)).looked(func(u *record.Usage) { *u = record.Usage{} }),
			waits("keyd has not looked yet").again(time.Nanosecond)},
		{"The look must have succeeded.",
			monthIn(weu, on(storageID, 2)).looked(func(u *record.Usage) { u.Err = errForbidden }),
			soon("keyd could not look at who uses the key: 403")},
		{"It must have covered each consumer that the configuration names.",
			monthIn(weu, on(storageID, 2)).looked(func(u *record.Usage) { u.Consumers = nil }),
			soon("has not looked yet at consumer " + storageID)},
		{"A search must have seen everything.",
			monthIn(weu, on(storageID, 2)).looked(func(u *record.Usage) { u.Unseen = []string{"subscription t"} }),
			soon("the search for consumers did not see everything: subscription t")},
		{"A consumer that cannot be seen counts as a user.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Err = errForbidden }),
			soon("storage account stcmkdemo cannot be seen: 403")},
		{"Also with the word that there are none.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Err = errForbidden }).rule(noConsumers),
			soon("storage account stcmkdemo cannot be seen: 403")},
		{"Also one of a type that keyd does not understand.",
			one(group+"Microsoft.Search/searchServices/s", 2, same), soon("a type that keyd does not understand")},
		{"Also one that is set to another key than the configuration says.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Key = "another" }),
			soon("is set to key another")},
		{"Also one that uses the version.",
			one(storageID, 1, same), soon("storage account stcmkdemo uses version " + version(1))},
		{"Also one that uses a version that keyd does not know.",
			one(storageID, 9, same), soon("uses version " + version(9))},
		{"Also one that is set to the version.",
			one(
				storageID,
				2,
				func(c *record.ConsumerSeen) { c.Asked = version(1) },
			), soon("is set to version " + version(1))},
		{"Also one that says that it still needs it.",
			one(disksID, 2, func(c *record.ConsumerSeen) { c.Needs = []string{version(1)} }),
			soon("disk encryption set desdemo still needs the version")},
		{"Also one of which keyd does not know since when it uses a later one.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Since = time.Time{} }), soon("since when")},
		{"Also one that left it less than its service's safe time ago.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Since = threeDaysAgo.Add(2*day + time.Hour) }),
			waits("may need it for 1 day after that").again(time.Hour)},
		{"The vault's clock counts, too.",
			one(storageID, 2, func(c *record.ConsumerSeen) { c.Since = threeDaysAgo.Add(2*day + 9*time.Minute) }).
				wait(10*time.Minute).
				skewed(weu, -4*time.Minute), waits("may need it for 1 day after that").again(-time.Minute)},
		{"Nobody left the version before it was superseded, whatever is said.",
			one(sqlID, 2, func(c *record.ConsumerSeen) { c.Since = threeDaysAgo.Add(-100 * day) }).
				rule(backupsFor(35 * day)), waits("its backups may need it").at(deactivatedAlone + 35*day)},
		{"Also one that came from there to another vault of the key.",
			one(storageID, 2, func(c *record.ConsumerSeen) {
				c.Vault, c.Since = neu.URL, threeDaysAgo.Add(2*day+time.Hour)
			}).with(func(p *key.Policy) { p.Vaults = append(p.Vaults, neu) }).away(neu),
			waits("may need it for 1 day after that").again(time.Hour)},
		{"If nobody states how long its service needs it, then for as long as a log would have to be quiet.",
			one(registryID, 2, func(c *record.ConsumerSeen) { c.Vault = neu.URL }).
				with(func(p *key.Policy) { p.Vaults = append(p.Vaults, neu) }).away(neu).rule(unusedFor(10 * day)),
			waits("may need it for 10 days after that").again(7 * day)},
		{"One that was made again may come from a backup that needs the version, although it left that long ago.",
			one(sqlID, 2, func(c *record.ConsumerSeen) {
				c.Left = map[string]time.Time{version(1): threeDaysAgo.Add(-27 * day)}
				c.Since, c.Anew = threeDaysAgo, threeDaysAgo
			}).rule(backupsFor(20 * day)), waits("its backups may need it").again(17 * day)},
		{"If it does not show its version, it must use a later one again.",
			one(serverID, 0, func(c *record.ConsumerSeen) { c.Anew = threeDaysAgo }).rule(backupsFor(10 * day)).
				logged(use{version(2), "oid of " + serverID, 4 * day}),
			soon("shows no use of a later one")},
		{"And its backups count from then.",
			one(serverID, 0, func(c *record.ConsumerSeen) { c.Anew = threeDaysAgo }).rule(backupsFor(10 * day)).
				logged(use{version(2), "oid of " + serverID, 2 * day}).
				log(firstUse(version(2), "oid of "+serverID, 20*day)),
			waits("its backups may need it").again(8 * day)},
		{"It left the version when keyd saw it in the other vault, wherever it was before.",
			one(sqlID, 0, func(c *record.ConsumerSeen) {
				c.Vault, c.Uses, c.Since = neu.URL, version(88), threeDaysAgo.Add(-20*day)
				c.Left = map[string]time.Time{version(77): threeDaysAgo.Add(-25 * day), version(1): threeDaysAgo}
			}).with(func(p *key.Policy) { p.Vaults = append(p.Vaults, neu) }).away(neu).rule(backupsFor(20 * day)),
			waits("its backups may need it").again(17 * day)},
		{"If it does not show its version, then since its first call of that other vault.",
			one(serverID, 0, func(c *record.ConsumerSeen) { c.Vault, c.Since = neu.URL, time.Time{} }).
				with(func(p *key.Policy) { p.Vaults = append(p.Vaults, neu) }).away(neu).rule(backupsFor(10 * day)).
				looked(func(u *record.Usage) {
					at := threeDaysAgo.Add(-day)
					u.Logs = map[string]record.LogSeen{neu.URL: {Worked: map[string]map[string]record.Span{
						version(88): {"oid of " + serverID: {First: at, Last: at}}}}}
				}),
			waits("its backups may need it").again(6 * day)},
		{"Also one that a search found there once, and that has another key now.",
			monthIn(weu, on(storageID, 2)).uses(but(on(sqlID, 0), func(c *record.ConsumerSeen) {
				c.Key, c.Left = "another", map[string]time.Time{version(1): threeDaysAgo}
			})).rule(backupsFor(30 * day)), waits("SQL server sqldemo left the version").again(27 * day)},
		{"Backups may need it, unless the rule says for how long they are kept.",
			monthIn(weu, on(sqlID, 2)), soon("retire.backups is not set")},
		{"They count from when the consumer left the version.",
			monthIn(weu, on(sqlID, 2)).rule(backupsFor(30 * day)), waits("its backups may need it").again(27 * day)},
		{"Of a service that does not show its version they count from its first use of a later one.",
			monthIn(
				weu,
				on(serverID, 0),
			).rule(backupsFor(10 * day)).
				logged(use{version(2), "oid of " + serverID, time.Hour}).
				log(firstUse(version(2), "oid of "+serverID, 7*day)),
			waits("its backups may need it").again(3 * day)},
		{"Where only the log shows who uses the key, some of them may keep backups.",
			monthIn(weu).logged(), soon("retire.backups is not set")},
		{"Also when anybody used it after that.",
			monthIn(weu, on(serverID, 0)).
				rule(func(r *key.RetireRule) { r.UnusedFor, r.Backups = 5*day, 10*day }).
				logged(use{version(2), "oid of " + serverID, time.Hour}, use{version(1), "vm", 7 * day}).
				log(firstUse(version(2), "oid of "+serverID, 20*day)),
			waits("its backups may need it").again(3 * day)},
		{"Then the log must be quiet for as long as backups are kept.",
			monthIn(weu).rule(func(r *key.RetireRule) { r.UnusedFor, r.Backups = 5*day, 40*day }).
				logged(use{version(1), "vm", 20 * day}), waits("by vm").again(20*day + time.Hour)},
		{"A service whose safe time is not stated needs the log.",
			monthIn(weu, on(registryID, 2)), soon("only the audit log of vault weu shows when it does not")},
		{"So does one whose documents ask for a quiet log.",
			monthIn(weu, on(cosmosID, 2)).rule(backupsFor(day)),
			soon("only the audit log of vault weu shows when it does not")},
		{"A service that does not show its version needs the log.",
			monthIn(weu, on(hubsID, 0)), soon("could show it: write evidence: {workspace: ID} under the vault")},
		{"keyd reads no log of a Managed HSM, so there it stays.",
			monthIn(mhsm, but(on(hubsID, 0), func(c *record.ConsumerSeen) { c.Vault = mhsm.URL })),
			soon("keyd reads no log of a Managed HSM").in(mhsm)},
		{"It must have used a later version.",
			monthIn(weu, on(hubsID, 0)).logged(), soon("no use of a later one by an identity of its own")},
		{"It must have done so since the version was superseded everywhere.",
			monthIn(
				weu,
				on(hubsID, 0),
			).logged(use{version(2), "oid of " + hubsID, 31 * day}),
			soon("no use of a later one by an identity of its own")},
		{"By an identity of its own: that of several proves nothing for one.",
			monthIn(weu, but(on(hubsID, 0), shared), but(on(otherHubs, 0), shared)).
				logged(use{version(2), "shared", time.Hour}),
			soon("no use of a later one by an identity of its own")},
		{"Also the backups that one keeps in another region with the same identity.",
			monthIn(weu, on(serverID, 0), but(on(serverID, 0), func(c *record.ConsumerSeen) { c.Service = "backups" })).
				rule(backupsFor(day)).logged(use{version(2), "oid of " + serverID, 20 * day}),
			soon("no use of a later one by an identity of its own")},
		{"With success, and not as keyd's own identity.",
			monthIn(weu, on(hubsID, 0)).logged(use{version(2), "oid of " + hubsID, time.Hour}).log(proveNothing),
			soon("no use of a later one by an identity of its own")},
		{"The log must show no use of the version by others than keyd.",
			monthIn(weu, on(storageID, 2)).logged(use{version(1), "vm", 10 * day}),
			waits("shows a use of the version, or one without a version, by vm").again(20*day + time.Hour)},
		{"A use without a version counts as one of every version.",
			monthIn(weu, on(storageID, 2)).logged(use{"", "vm", 10 * day}),
			waits("one without a version, by vm").again(20*day + time.Hour)},
		{"Also with the word that there are no consumers.",
			month(weu).logged(use{version(1), "vm", 10 * day}),
			waits("by vm").again(20*day + time.Hour)},
		{"The log must be whole for all of the time.",
			monthIn(weu, on(storageID, 2)).logged().log(func(l *record.LogSeen) { l.From = threeDaysAgo }),
			waits("is whole only since").again(27*day + time.Hour)},
		{"The log must be whole until a few hours ago.",
			monthIn(weu, on(storageID, 2)).logged().log(func(l *record.LogSeen) { l.Until = threeDaysAgo }),
			soon("is whole only until")},
		{"keyd must trust the log.",
			monthIn(weu, on(storageID, 2)).logged().log(func(l *record.LogSeen) { l.Err = errForbidden }),
			soon("does not trust the audit log of vault weu: 403")},
		{"keyd must have read the log.",
			monthIn(weu, on(storageID, 2)).logged().looked(func(u *record.Usage) { u.Logs = nil }),
			soon("has not read the audit log of vault weu yet")},
	}
}
