package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const resources = "/subscriptions/2f6d1c7a-90b4-4e38-8a5d-1be7c3f40962/resourceGroups/data/providers/"

// user is a consumer that uses a generation of a key in contoso-weu since a while, and follows by itself.
func user(k status.Key, service, id string, generation int, since time.Time) status.Consumer {
	return status.Consumer{
		ID: resources + id, Service: service, Name: id[strings.LastIndexByte(id, '/')+1:], Configured: true,
		Understood: true, Vault: weu, Key: k.Name, Uses: k.Generations[generation-1].Placements[0].Version,
		Generation: generation, Newest: generation == len(k.Generations), NewestGeneration: len(k.Generations),
		Since: since, Moves: status.MovesItself, Within: status.Seconds(time.Hour),
	}
}

// disks is a disk encryption set that uses the newest generation.
func disks(k status.Key) *status.Consumers {
	return &status.Consumers{At: at.Add(-20 * time.Minute), List: []status.Consumer{
		user(
			k,
			"disk encryption set",
			"Microsoft.Compute/diskEncryptionSets/des-prod",
			len(k.Generations),
			k.LastRotation,
		),
	}}
}

// manyServices is who uses a key: all of them its newest generation.
func manyServices(k status.Key) *status.Consumers {
	n := len(k.Generations)
	storage := user(
		k,
		"storage account",
		"Microsoft.Storage/storageAccounts/stcmkprod",
		n,
		k.LastRotation.Add(9*time.Hour),
	)
	storage.Within = status.Seconds(24 * time.Hour)
	storage.Log = &status.LogUse{Version: storage.Uses, Generation: n, At: at.Add(-40 * time.Minute)}
	ai := user(
		k,
		"AI services account",
		"Microsoft.CognitiveServices/accounts/ai-prod",
		n,
		k.LastRotation.Add(days(2)),
	)
	ai.Asked, ai.Moves, ai.Within = ai.Uses, status.MovedByHand, 0
	return &status.Consumers{
		At: at.Add(-20 * time.Minute),
		List: []status.Consumer{
			storage,
			user(k, "Cosmos DB account", "Microsoft.DocumentDB/databaseAccounts/cosmos-prod", n,
				k.LastRotation.Add(30*time.Minute)),
			ai,
		},
		Logs: []status.UsedLog{
			{Vault: weu, Workspace: "0b1f3c5d", From: at.Add(-days(90)), Until: at.Add(-25 * time.Minute)},
		},
	}
}

// oneBehind is manyServices with one that is set to the generation before.
func oneBehind(k status.Key) *status.Consumers {
	c, n := manyServices(k), len(k.Generations)
	ai := &c.List[len(c.List)-1]
	ai.Uses, ai.Generation, ai.Newest = k.Generations[n-2].Placements[0].Version, n-1, false
	ai.Asked, ai.Since, ai.Due = ai.Uses, k.LastRotation.Add(-days(60)), k.LastRotation
	ai.InTheWay = []string{
		fmt.Sprintf("uses generation %d, not %d; it does not follow by itself, so somebody must move it",
			n-1, n),
	}
	return c
}

// behind is threeKeys, and a consumer of one of them is set to the generation before.
func behind() status.Snapshot {
	s := threeKeys()
	s.Keys[1].Consumers = oneBehind(s.Keys[1])
	return s
}

// troubledUsers have each kind of trouble.
func troubledUsers(k status.Key) *status.Consumers {
	c := oneBehind(k)
	bad := user(k, "SQL server", "Microsoft.Sql/servers/sql-prod", 2, time.Time{})
	bad.Compromised, bad.Due = true, at.Add(-days(20))
	bad.InTheWay = []string{"uses generation 2, whose material is compromised"}
	hidden := status.Consumer{
		ID:         resources + "Microsoft.EventHub/namespaces/eh-prod",
		Service:    "Event Hubs namespace",
		Name:       "eh-prod",
		Configured: true,
		Understood: true,
		Error:      "HTTP 403 AuthorizationFailed",
		Reason:     key.Forbidden,
		InTheWay:   []string{"cannot be seen: HTTP 403 AuthorizationFailed"},
	}
	found := user(
		k,
		"PostgreSQL flexible server",
		"Microsoft.DBforPostgreSQL/flexibleServers/pg-prod",
		3,
		time.Time{},
	)
	found.Configured, found.Uses, found.Generation, found.Newest = false, "", 0, false
	found.InTheWay = []string{"is not in the configuration"}
	other := user(k, "container registry", "Microsoft.ContainerRegistry/registries/acrprod", 3, time.Time{})
	other.OtherKey, other.Moves = true, status.MovedByKeyd
	other.InTheWay = []string{"is set to key other in contoso-weu, not to this key"}
	c.List = append(c.List, bad, hidden, found, other)
	c.Unseen = []string{"subscription 9d0c is not shown to keyd's identity"}
	c.Logs[0].Retired = &status.RetiredUse{Generation: 1, At: at.Add(-time.Hour), Caller: "5f0c"}
	return c
}

// consumerProblems are the problems of consumers, in the daemon's words.
func consumerProblems() (all []status.Problem) {
	add := func(severity status.Severity, key, vault, runbook, text, remedy string) {
		all = append(all,
			status.Problem{Severity: severity, Key: key, Vault: vault, Runbook: runbook, Text: text, Remedy: remedy})
	}
	add(
		status.Warning,
		"compromised",
		"contoso-weu",
		"keydconsumerlags",
		"compromised: AI services account ai-prod uses generation 2, not 3; it does not follow by itself, so somebody "+
			"must move it (vault contoso-weu)",
		"set it to the newest version, or to the key without a version, as the "+
			"runbook says",
	)
	add(status.Critical, "compromised", "contoso-weu", "keydconsumerversion",
		"compromised: SQL server sql-prod uses generation 2, whose material is compromised (vault contoso-weu)",
		"move it to the newest version, as the runbook says")
	add(status.Warning, "", "", "keydconsumerunseen",
		"keyd cannot see 40 consumers of 12 keys, for one reason: Event Hubs namespace eh-prod: HTTP 403",
		"until keyd sees them again they count as users of every version, and nothing is retired; keyd looks every "+
			"hour, and now with: keyd consumers KEY --discover")
	add(status.Warning, "compromised", "", "keydconsumersdiffer",
		"compromised has consumers that the configuration lacks: PostgreSQL flexible server pg-prod",
		"keyd consumers compromised shows the lines for the configuration; then: keyd reload")
	add(
		status.Critical,
		"compromised",
		"contoso-weu",
		"keydretiredversionused",
		"compromised: at 2026-11-25T08:41:00Z 5f0c asked vault contoso-weu to use generation 1, which is disabled, "+
			"and was refused",
		"find out who it is, as the runbook says; if they need the version: keyd enable compromised "+
			"85f90dfea1d8027e1463e5ca971a2501 --reason …",
	)
	add(status.Warning, "", "contoso-weu", "keyduselogunseen",
		"keyd does not see who uses keys: the log of the vault contoso-weu: HTTP 403 InsufficientAccessError",
		"until keyd can read it nothing is retired by it; see the runbook")
	return all
}

func TestAKeysPageNamesWhoUsesEachVersion(t *testing.T) {
	s := behind()
	k, _ := s.Key("sa-cmk-key")
	table := viewTable(at, k, vaultNames(s))
	for row, want := range map[int]string{
		0: "Cosmos DB account cosmos-prod, storage account stcmkprod", 1: "AI services account ai-prod", 2: "",
	} {
		if got := table.Rows[row].Cells[0][0].Users; got != want {
			t.Errorf("generation %d is used by %q, want %q", table.Rows[row].Number, got, want)
		}
		if got := table.Rows[row].Cells[1][0].Users; got != "" {
			t.Errorf("in the other vault generation %d is used by %q", table.Rows[row].Number, got)
		}
	}
}

func TestATimelineShowsSinceWhenConsumersUseAGeneration(t *testing.T) {
	k, _ := behind().Key("sa-cmk-key")
	tl := drawTimeline(at, k, cardLanes)
	newest, older, none := tl.Lanes[0].Used, tl.Lanes[1].Used, tl.Lanes[2].Used
	if newest == nil || newest.Behind || len(newest.Marks) != 2 {
		t.Errorf("the newest generation: %+v", newest)
	}
	if older == nil || !older.Behind || len(older.Marks) != 1 {
		t.Errorf("the one before: %+v", older)
	}
	if none != nil {
		t.Errorf("one that nobody uses: %+v", none)
	}
	for _, want := range []string{"2 consumers use generation 6.", "1 consumer uses generation 5."} {
		if !strings.Contains(tl.Desc, want) {
			t.Errorf("the description does not say %q: %s", want, tl.Desc)
		}
	}
}

func TestConsumersAreCountedByWhatTheyUse(t *testing.T) {
	k, _ := everyTrouble().Key("compromised")
	want := "7 consumers: 2 on the newest version, 2 on an older one, 1 not showing its version, " +
		"1 set to another key, 1 not seen"
	if got := usersWords(*k.Consumers); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := usersWords(*disks(k)); got != "1 consumer on the newest version" {
		t.Error(got)
	}
}

func TestAPageDoesNotShowThousandsOfConsumers(t *testing.T) {
	s := threeKeys()
	one := s.Keys[0].Consumers.List[0]
	for range 2_000 {
		s.Keys[0].Consumers.List = append(s.Keys[0].Consumers.List, one)
	}
	p, _ := viewOneKey(s, s.Keys[0].Name, nil, nil)
	cell := p.Table.Rows[0].Cells[0][0].Users
	if len(p.Users.Rows) != maxUsersShown || p.Users.More != 1_901 || !strings.HasSuffix(cell, ", 1995 more") {
		t.Errorf("%d rows and %d more; in a cell: %s", len(p.Users.Rows), p.Users.More, cell)
	}
	if marks := p.Key.Timeline.Lanes[0].Used.Marks; len(marks) != 1 {
		t.Errorf("%d marks at one place", len(marks))
	}
}

func TestWhereNobodyIsAskedThePageSaysNothingOfConsumers(t *testing.T) {
	s := threeKeys()
	k, _ := s.Key("sql-tde-key")
	if strings.Contains(keyHTML(t, s, k.Name), "h-consumers") || slices.ContainsFunc(viewKey(at, k, nil).Facts,
		func(f string) bool { return strings.Contains(f, "consumer") }) {
		t.Error("it does")
	}
}
