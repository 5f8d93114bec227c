package plan_test

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

const group = "/subscriptions/s/resourceGroups/g/providers/"

// The resources that use the key in the examples.
const (
	storageID  = group + "Microsoft.Storage/storageAccounts/stcmkdemo"
	registryID = group + "Microsoft.ContainerRegistry/registries/acrdemo"
	hubsID     = group + "Microsoft.EventHub/namespaces/hubdemo"
	otherHubs  = group + "Microsoft.EventHub/namespaces/hubother"
	serverID   = group + "Microsoft.DBforPostgreSQL/flexibleServers/pgdemo"
	sqlID      = group + "Microsoft.Sql/servers/sqldemo"
	cosmosID   = group + "Microsoft.DocumentDB/databaseAccounts/cosmosdemo"
	disksID    = group + "Microsoft.Compute/diskEncryptionSets/desdemo"
)

// monthIn is month in one vault, with consumers instead of the word that there are none. The configuration names them.
func monthIn(v key.Vault, consumers ...record.ConsumerSeen) *world {
	w := month(v).with(func(p *key.Policy) {
		p.Retire.NoConsumers = false
		for _, c := range consumers {
			p.Consumers = append(p.Consumers, key.Consumer{ID: c.ID})
		}
	}).consented()
	w.usage = record.Usage{At: w.clock}
	for _, c := range consumers {
		c.Configured = true
		w.uses(c)
	}
	return w
}

// uses adds a consumer to what keyd sees.
func (w *world) uses(c record.ConsumerSeen) *world {
	w.usage.Consumers = append(w.usage.Consumers, c)
	return w
}

// on is a resource that follows the key in weu, has used a version for three days, and calls the vault as itself.
func on(id string, n int) record.ConsumerSeen {
	c := record.ConsumerSeen{ID: id, Vault: weu.URL, Key: keyName, Follows: true, Since: threeDaysAgo,
		Callers: []string{"oid of " + id}}
	if n > 0 {
		c.Uses = version(n)
	}
	return c
}

// threeDaysAgo is that before what month returns.
var threeDaysAgo = month(weu).clock.Add(-3 * day)

// but is the consumer with something else about it.
func but(c record.ConsumerSeen, change func(*record.ConsumerSeen)) record.ConsumerSeen {
	change(&c)
	return c
}

// lookedNow: keyd has just looked at those who use the key, and saw nobody.
func (w *world) lookedNow() *world { w.usage = record.Usage{At: w.clock}; return w }

// looked changes what keyd saw of those who use the key.
func (w *world) looked(change func(*record.Usage)) *world { change(&w.usage); return w }

// logged: the vault has a workspace, whose log keyd has seen whole for 60 days, and uses are in it.
func (w *world) logged(uses ...use) *world {
	log := record.LogSeen{From: w.clock.Add(-60 * day), Until: w.clock.Add(-time.Hour),
		Uses: map[string]map[string]time.Time{}, Worked: map[string]map[string]record.Span{}}
	for _, u := range uses {
		if log.Uses[u.version] == nil {
			log.Uses[u.version], log.Worked[u.version] = map[string]time.Time{}, map[string]record.Span{}
		}
		at := w.clock.Add(-u.ago)
		log.Uses[u.version][u.by], log.Worked[u.version][u.by] = at, record.Span{First: at, Last: at}
	}
	w.usage.At = w.clock
	w.usage.Logs = map[string]record.LogSeen{weu.URL: log}
	return w.with(func(p *key.Policy) { p.Workspaces = map[string]string{weu.URL: "w1"} })
}

// use is the last use of a version by a caller in the log.
type use struct {
	version string
	by      string
	ago     time.Duration
}

// firstUse is that a caller first used a version that long before now.
func firstUse(version, by string, ago time.Duration) func(*record.LogSeen) {
	return func(l *record.LogSeen) {
		worked := l.Worked[version][by]
		worked.First = threeDaysAgo.Add(3*day - ago)
		l.Worked[version][by] = worked
	}
}

// proveNothing: the uses in the log were refused, or keyd's own identity made them.
func proveNothing(l *record.LogSeen) { l.Worked = nil }

// log changes what keyd saw of the log.
func (w *world) log(change func(*record.LogSeen)) *world {
	log := w.usage.Logs[weu.URL]
	change(&log)
	w.usage.Logs[weu.URL] = log
	return w
}

// rule changes the retire rule, and an operator consents to it.
func (w *world) rule(change func(*key.RetireRule)) *world {
	return w.with(func(p *key.Policy) { change(&p.Retire) }).consented()
}

func backupsFor(d time.Duration) func(*key.RetireRule) {
	return func(r *key.RetireRule) { r.Backups = d }
}

func unusedFor(d time.Duration) func(*key.RetireRule) {
	return func(r *key.RetireRule) { r.UnusedFor = d }
}

func noConsumers(r *key.RetireRule) { r.NoConsumers = true }

func discovers(p *key.Policy) { p.Discover = true }
