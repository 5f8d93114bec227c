package trouble

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	oldVersion = "5be10a77"
	newVersion = "a70e5be1"
	account    = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/stcmkdemo"
	aiAccount  = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/aidemo"
	unknownOne = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Search/searchServices/find"
	workspace  = "0b1f3c5d-7e9a-4b2c-8d4e-6f8091a2b3c4"
	day        = 24 * time.Hour
)

// rotatedTo adds a second generation to both vaults, which is the newest since a while.
func (w *world) rotated(ago time.Duration) {
	since := noon.Add(-ago)
	g := record.Generation{Number: 2, Fingerprint: "sha256:2", Reserved: since, Pinned: since, Finished: since}
	w.rec.Generations[0].Deactivated = since
	for i, v := range w.rec.Vaults {
		old := &w.rec.Generations[0].Placements[i]
		old.State = key.Superseded
		g.Placements = append(g.Placements, record.Placement{Seq: 10 + i, Vault: v.URL, VaultName: v.Name,
			State: key.Proven, Version: newVersion, ImportedAt: since, ProvenAt: since})
		seen := w.seen.Vaults[v.URL]
		seen.Newest = newVersion
		seen.Versions = append(seen.Versions, key.Version{ID: newVersion, Enabled: true, Created: since})
		w.seen.Vaults[v.URL] = seen
	}
	w.rec.Generations = append(w.rec.Generations, g)
	w.key().LastRotation = since
}

// storage is a storage account that follows, and uses a version.
func storage(version string) record.ConsumerSeen {
	return record.ConsumerSeen{ID: account, Service: "storage account", Configured: true, Vault: weu, Key: aKey,
		Uses: version, Follows: true, Since: noon.Add(-20 * day), Callers: []string{"oid-1"}}
}

// pinned is an AI account that is set to a version.
func pinned(version string) record.ConsumerSeen {
	return record.ConsumerSeen{ID: aiAccount, Service: "AI services account", Configured: true, Vault: weu, Key: aKey,
		Asked: version, Uses: version, Callers: []string{"oid-2"}}
}

// used has a look at the consumers find these, ten minutes ago.
func (w *world) used(list ...record.ConsumerSeen) {
	w.usage(record.Usage{At: noon.Add(-10 * time.Minute), Consumers: list})
}

func (w *world) usage(u record.Usage) {
	w.policy.Consumers = []key.Consumer{{ID: account}, {ID: aiAccount}}
	w.key().Consumers = SeenConsumers(w.policy, &w.rec, w.seen, u, w.key().Consumers)
}

// unseenSince makes looks fail for a while.
func (w *world) unseenSince(ago time.Duration, err error) {
	blind := storage("")
	blind.Err = err
	w.usage(record.Usage{At: noon.Add(-ago), Consumers: []record.ConsumerSeen{blind}})
	w.used(blind)
}

// logged is a log that keyd has seen until a while ago, with a use of a version.
func (w *world) logged(until time.Duration, version string, usedAgo time.Duration) {
	w.policy.Workspaces = map[string]string{weu: workspace}
	w.usage(record.Usage{At: noon.Add(-10 * time.Minute), Logs: map[string]record.LogSeen{weu: {
		From: noon.Add(-40 * day), Until: noon.Add(-until),
		Uses: map[string]map[string]time.Time{version: {"oid-9": noon.Add(-usedAgo)}},
	}}})
}

// moves is the moving of a consumer that has not ended well.
func (w *world) moves(m status.Move) {
	m.Name = "ai-1"
	w.key().Consumers = &status.Consumers{Moves: []status.Move{m}}
}

// retire disables the older version by rule, a while ago.
func (w *world) retired(ago time.Duration) {
	at := &w.rec.Generations[0].Placements[0]
	at.State, at.DisabledAt = key.Disabled, noon.Add(-ago)
	w.inWEU(func(_ *record.VaultSeen, first *key.Version) { first.Enabled = false })
	w.key().Proofs = w.key().Proofs[1:] // keyd proves it no more
}

// expiringOlder lets the older version expire in a while.
func (w *world) expiringOlder(in time.Duration) {
	w.inWEU(func(_ *record.VaultSeen, first *key.Version) { first.Expires = noon.Add(in) })
	w.rec.Generations[0].Placements[0].Expires = noon.Add(in)
}

func (w *world) compromised() {
	w.rec.Generations[0].Compromised = noon.Add(-3 * day)
	w.rec.Acknowledge(noon, w.seen)
}

func consumerExamples() []example {
	return []example{
		{"keydconsumerlags", "follows", aKey, aVault, func(w *world) {
			w.rotated(49 * time.Hour) // a day of the service's, and a day
			w.used(storage(oldVersion))
		}, func(w *world) {
			w.rotated(47 * time.Hour)
			w.used(storage(oldVersion))
		}},
		{"keydconsumerlags", "pinned", aKey, aVault, func(w *world) {
			w.rotated(169 * time.Hour)
			w.used(pinned(oldVersion))
		}, func(w *world) {
			w.rotated(167 * time.Hour)
			w.used(pinned(oldVersion))
		}},
		{"keydconsumerlags", "pinned to the newest is well", aKey, aVault, func(w *world) {
			w.rotated(30 * day)
			w.used(pinned(oldVersion))
		}, func(w *world) {
			w.rotated(30 * day)
			w.used(pinned(newVersion), storage(newVersion))
		}},
		{"keydconsumerversion", "disabled", aKey, aVault, func(w *world) {
			w.rotated(time.Hour)
			w.retired(time.Minute)
			w.used(storage(oldVersion))
		}, func(w *world) {
			w.rotated(time.Hour)
			w.retired(time.Minute)
			w.used(storage(newVersion))
		}},
		{"keydconsumerversion", "compromised", aKey, aVault, func(w *world) {
			w.rotated(25 * time.Hour)
			w.compromised()
			w.used(storage(oldVersion))
		}, func(w *world) {
			w.rotated(23 * time.Hour) // it has a day to follow
			w.compromised()
			w.used(storage(oldVersion))
		}},
		{"keydconsumerversion", "expires soon", aKey, aVault, func(w *world) {
			w.rotated(time.Hour)
			w.expiringOlder(6 * day)
			w.used(storage(oldVersion))
		}, func(w *world) {
			w.rotated(time.Hour)
			w.expiringOlder(8 * day)
			w.used(storage(oldVersion))
		}},
		{"keydconsumerunseen", "a consumer", aKey, "", func(w *world) {
			w.unseenSince(121*time.Minute, errors.New("HTTP 404 ResourceNotFound"))
		}, func(w *world) {
			w.unseenSince(119*time.Minute, errors.New("HTTP 404 ResourceNotFound"))
		}},
		{"keydconsumerunseen", "the whole look", aKey, "", func(w *world) {
			failed := record.Usage{At: noon.Add(-3 * time.Hour), Err: errors.New("keyd has no client")}
			w.usage(failed)
			failed.At = noon
			w.usage(failed)
		}, func(w *world) { w.usage(record.Usage{At: noon, Err: errors.New("keyd has no client")}) }},
		{"keydconsumerunseen", "no looks", "", "", func(w *world) {
			w.usage(record.Usage{At: noon.Add(-121 * time.Minute)})
		}, func(w *world) { w.usage(record.Usage{At: noon.Add(-119 * time.Minute)}) }},
		{"keydconsumersdiffer", "found", aKey, "", func(w *world) {
			found := storage(oldVersion)
			found.Configured = false
			w.used(found)
		}, func(w *world) { // what keyd does not understand cannot be configured
			w.used(record.ConsumerSeen{ID: unknownOne, Service: "microsoft.search/searchservices",
				Err: errors.New("found, not understood")})
		}},
		{"keydconsumersdiffer", "another key", aKey, "", func(w *world) {
			other := storage(oldVersion)
			other.Vault, other.Key = "https://other.vault.azure.net", "other"
			w.used(other)
		}, nil},
		{"keydretiredversionused", "", aKey, aVault, func(w *world) {
			w.rotated(40 * day)
			w.retired(9 * day)
			w.logged(time.Hour, oldVersion, 6*day)
		}, func(w *world) {
			w.rotated(40 * day)
			w.retired(9 * day)
			w.logged(time.Hour, oldVersion, 8*day) // it was quiet since
		}},
		{"keyduselogunseen", "", "", aVault, func(w *world) { w.logged(7*time.Hour, newVersion, day) },
			func(w *world) { w.logged(5*time.Hour, newVersion, day) }},
	}
}

// forbidden is what Resource Manager says of everything.
type forbidden struct{ id int }

func (e forbidden) Error() string {
	return fmt.Sprintf("account %d: HTTP 403 AuthorizationFailed", e.id)
}
func (e forbidden) Reason() key.Reason { return key.Forbidden }

// consumers gives each key a consumer that cannot be seen since hours, and a search that fails likewise.
func (w *many) blind(why func(i int) error) {
	for i := range w.Keys {
		k := &w.Keys[i]
		c := storage("")
		c.ID += fmt.Sprint(i)
		c.Err = why(i)
		l := w.Looks[k.Name]
		p := key.Policy{Key: k.Name, Vaults: l.Vaults, Consumers: []key.Consumer{{ID: c.ID}}, Discover: true}
		for _, at := range []time.Time{noon.Add(-3 * time.Hour), noon.Add(-time.Minute)} {
			k.Consumers = SeenConsumers(p, &record.Record{}, l.Seen, record.Usage{At: at,
				Consumers: []record.ConsumerSeen{c}, Unseen: []string{"the search failed"}}, k.Consumers)
		}
	}
}

type noAnswer struct{ error }

func (noAnswer) Reason() key.Reason { return key.NoAnswer }

func TestResourceManagerThatCannotBeUsedIsOneProblem(t *testing.T) {
	w := manyKeys(40)
	w.blind(func(int) error { return noAnswer{errors.New("dial tcp: i/o timeout")} })
	got := Find(w.Snapshot, w.Evidence)
	if len(got) != 1 || got[0].Runbook != "keydconsumerunseen" || got[0].Key != "" ||
		!strings.Contains(got[0].Text, "40 consumers of 40 keys") || !got[0].About("key-07") {
		t.Errorf("%d problems: %+v", len(got), got[:min(3, len(got))])
	}
}

func TestAMissingRightIsOneProblemAndTheSearchAnother(t *testing.T) {
	w := manyKeys(40)
	w.blind(func(i int) error { return forbidden{i} })
	if got := runbooks(w); !slices.Equal(got, []string{"keydconsumerunseen", "keydconsumerunseen"}) {
		t.Errorf("problems: %v", got)
	}
}

func TestWithoutATokenThatIsTheCause(t *testing.T) {
	w := manyKeys(4)
	for i := range w.Vaults {
		w.Vaults[i].Reachable, w.Vaults[i].Error, w.Vaults[i].Reason = false, "no token", key.NoToken
	}
	w.blind(func(int) error { return tokenless{} })
	got := Find(w.Snapshot, w.Evidence)
	if len(got) != 1 || !slices.Contains(got[0].Effects, "4 consumers cannot be seen meanwhile") {
		t.Errorf("problems: %+v", got)
	}
}

type tokenless struct{}

func (tokenless) Error() string      { return "no token" }
func (tokenless) Reason() key.Reason { return key.NoToken }

// Somebody disables the newest version by hand: that is the problem, and who uses it follows.
func TestWhoUsesADisabledVersionFollowsFromIt(t *testing.T) {
	w := allWell()
	w.inWEU(func(_ *record.VaultSeen, newest *key.Version) { newest.Enabled = false })
	w.used(storage(oldVersion), pinned(oldVersion))
	got := w.problems()
	if len(got) != 1 || got[0].Runbook != "drift-newest-disabled" ||
		!slices.Contains(got[0].Effects, "2 consumers use the version") {
		t.Errorf("problems: %+v", got)
	}
}

func TestALogThatShowsAConsumersUseOfARetiredVersionFollowsFromIt(t *testing.T) {
	w := allWell()
	w.rotated(40 * day)
	w.retired(9 * day)
	w.policy.Workspaces = map[string]string{weu: workspace}
	w.usage(record.Usage{At: noon, Consumers: []record.ConsumerSeen{storage(oldVersion)},
		Logs: map[string]record.LogSeen{weu: {From: noon.Add(-day), Until: noon,
			Uses: map[string]map[string]time.Time{oldVersion: {"oid-1": noon.Add(-time.Hour)}}}}})
	if got := w.problems(); len(got) != 1 || got[0].Runbook != "keydconsumerversion" {
		t.Errorf("problems: %+v", got)
	}
}

func TestAConsumerIsSinceTheFirstLookUnseenThatDidNotSeeIt(t *testing.T) {
	w := allWell()
	w.unseenSince(5*time.Hour, errors.New("HTTP 404"))
	if got := w.key().Consumers.List[0].UnseenSince; !got.Equal(noon.Add(-5 * time.Hour)) {
		t.Errorf("unseen since %s", got)
	}
	w.used(storage(oldVersion))
	w.unseenSince(time.Hour, errors.New("HTTP 404"))
	if got := w.key().Consumers.List[0].UnseenSince; !got.Equal(noon.Add(-time.Hour)) {
		t.Errorf("it was seen between: unseen since %s", got)
	}
}

func TestWhatTheLogShowsOfAConsumer(t *testing.T) {
	w := allWell()
	w.rotated(2 * day)
	uses := map[string]map[string]time.Time{
		oldVersion: {"oid-1": noon.Add(-time.Hour), "oid-2": noon.Add(-time.Hour)},
		newVersion: {"OID-1": noon.Add(-2 * time.Hour)}, // Azure ignores case
	}
	twin := storage(oldVersion)
	twin.ID, twin.Callers = account+"2", []string{"oid-2"}
	w.usage(record.Usage{At: noon, Consumers: []record.ConsumerSeen{storage(oldVersion), pinned(oldVersion), twin},
		Logs: map[string]record.LogSeen{weu: {From: noon.Add(-day), Until: noon, Uses: uses}}})
	list := w.key().Consumers.List
	want := []status.LogUse{
		{Version: newVersion, Generation: 2, At: noon.Add(-2 * time.Hour)},
		{Version: oldVersion, Generation: 1, At: noon.Add(-time.Hour), Shared: true},
		{Version: oldVersion, Generation: 1, At: noon.Add(-time.Hour), Shared: true},
	}
	for i, w := range want {
		if got := list[i].Log; got == nil || *got != w {
			t.Errorf("%s: %+v, want %+v", list[i].Name, got, w)
		}
	}
}

// What left a key, or was deleted, counts for a retire rule. Nobody can do anything about it but wait.
func TestAConsumerThatLeftIsShownAndIsNoProblem(t *testing.T) {
	w := allWell()
	gone := record.ConsumerSeen{ID: account, Service: "storage account",
		Err: fmt.Errorf("%w until 2026-11-20, and is not now", consumer.ErrLeft)}
	w.usage(record.Usage{At: noon.Add(-5 * time.Hour), Consumers: []record.ConsumerSeen{gone}})
	w.used(gone)
	if got := w.problems(); len(got) > 0 {
		t.Errorf("problems: %+v", got)
	}
	c := Explain(noon, w.key().Consumers, nil)
	if c.List[0].State() != status.UsedOnce || len(c.List[0].InTheWay) != 1 || len(c.Add) > 0 {
		t.Errorf("%+v, to add: %q", c.List[0], c.Add)
	}
}

func TestAConsumerUnderTheServicesOwnKeyIsSetToAnother(t *testing.T) {
	w := allWell()
	own := record.ConsumerSeen{ID: account, Service: "storage account", Configured: true,
		Err: fmt.Errorf("%w, and not under %s", consumer.ErrOwnKey, aKey)}
	w.used(own)
	if got := w.problems(); len(got) != 1 || got[0].Runbook != "keydconsumersdiffer" {
		t.Errorf("problems: %+v", got)
	}
}

func TestOnlyWhatTheConfigurationCanNameIsProposedForIt(t *testing.T) {
	scope := account + "/encryptionScopes/hr"
	for id, want := range map[string]string{
		account: account, scope: scope, unknownOne: "", account + "/fileServices/default": account,
	} {
		if got := addable(record.ConsumerSeen{ID: id}); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if got := addable(record.ConsumerSeen{ID: account, Configured: true}); got != "" {
		t.Errorf("what is configured is proposed: %q", got)
	}
}

func TestWhereNobodyCanBeAskedThereAreNoConsumers(t *testing.T) {
	w := allWell()
	if got := SeenConsumers(w.policy, &w.rec, w.seen, record.Usage{}, nil); got != nil {
		t.Errorf("%+v", got)
	}
	w.policy.Retire.NoConsumers = true
	if got := SeenConsumers(w.policy, &w.rec, w.seen, record.Usage{}, nil); got == nil || !got.None {
		t.Errorf("consumers: none shows %+v", got)
	}
}
