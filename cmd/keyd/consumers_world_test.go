package main

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const resources = "/subscriptions/2f6d1c7a-90b4-4e38-8a5d-1be7c3f40962/resourceGroups/data/providers/"

// consumer is one that follows by itself, and uses the newest version in contoso-weu.
func consumer(service, id string) status.Consumer {
	c := status.Consumer{
		ID: resources + id, Service: service, Configured: true, Understood: true, Vault: weu, Key: "sa-cmk-key",
		Uses: version(2), Generation: 2, Newest: true, NewestGeneration: 2, Since: at(-10 * 24 * time.Hour),
		Moves: status.MovesItself, Within: status.Seconds(time.Hour),
	}
	for i := len(id) - 1; id[i] != '/'; i-- {
		c.Name = id[i:]
	}
	return c
}

// withConsumers is healthy, and keyd looks at those who use two of the keys.
func withConsumers() status.Snapshot {
	s := healthy()
	storage := consumer("storage account", "Microsoft.Storage/storageAccounts/stcmkdemo")
	storage.Within = status.Seconds(24 * time.Hour)
	storage.Log = &status.LogUse{Version: version(2), Generation: 2, At: at(-3 * time.Hour)}

	lagging := consumer("Cosmos DB account", "Microsoft.DocumentDB/databaseAccounts/cosdemo")
	lagging.Uses, lagging.Generation, lagging.Newest = version(1), 1, false
	lagging.Due, lagging.Since = at(-9*24*time.Hour), at(-300*24*time.Hour)
	lagging.Log = &status.LogUse{Version: version(1), Generation: 1, At: at(-2 * time.Hour), Shared: true}
	lagging.InTheWay = []string{"uses generation 1, not 2, and should have followed by 2026-02-20T12:00:00Z"}

	pinned := consumer("AI services account", "Microsoft.CognitiveServices/accounts/aidemo")
	pinned.Asked, pinned.Moves, pinned.Within = version(2), status.MovedByHand, 0

	repointed := consumer("container registry", "Microsoft.ContainerRegistry/registries/acrdemo")
	repointed.Asked, repointed.Moves, repointed.Within = version(2), status.MovedByKeyd, 0

	hidden := status.Consumer{
		ID: resources + "Microsoft.EventHub/namespaces/ehdemo", Service: "Event Hubs namespace", Name: "ehdemo",
		Configured: true, Understood: true, Error: "namespace ehdemo: HTTP 403 AuthorizationFailed",
		Reason: key.Forbidden, UnseenSince: at(-5 * time.Hour), Moves: status.MoverUnknown,
		InTheWay: []string{"cannot be seen: namespace ehdemo: HTTP 403 AuthorizationFailed"},
	}
	found := consumer("PostgreSQL flexible server", "Microsoft.DBforPostgreSQL/flexibleServers/pgdemo")
	found.Configured, found.Uses, found.Generation, found.Newest, found.Since = false, "", 0, false, time.Time{}
	found.InTheWay = []string{"is not in the configuration"}

	s.Keys[0].Consumers = &status.Consumers{
		At: at(-20 * time.Minute), Searched: true,
		Unseen: []string{"subscription 9d0c is not shown to keyd's identity"},
		List:   []status.Consumer{storage, lagging, pinned, repointed, hidden, found}, Add: []string{found.ID},
		Moves: []status.Move{
			{Consumer: repointed.ID, Name: "acrdemo", State: status.MoveRunning, Since: at(-4 * time.Minute),
				Vault: weu, From: version(1), To: version(2)},
			{Consumer: pinned.ID, Name: "aidemo", State: status.MoveWaits, Since: at(-time.Hour), By: "anna (uid 1001)",
				Vault: weu, From: version(1), To: version(2), Why: "keyd moves consumer acrdemo first"},
			{Consumer: lagging.ID, Name: "cosdemo", State: status.MoveLapsed, Since: at(-2 * time.Hour),
				By: "anna (uid 1001)", Why: "the key is held: a drill, and a request counts for 1 day",
				Command: "keyd repoint sa-cmk-key cosdemo --reason …"},
		},
		Logs: []status.UsedLog{
			{Vault: weu, Workspace: "0b1f3c5d-7e9a-4b2c-8d4e-6f8091a2b3c4", From: at(-40 * 24 * time.Hour),
				Until: at(-25 * time.Minute), Retired: &status.RetiredUse{Version: version(1), Generation: 1,
					At: at(-26 * time.Hour), Caller: "5f0c3b1e-0000-4000-8000-00000000aaaa"}},
		},
	}
	s.Keys[2].Consumers = &status.Consumers{None: true}
	return s
}
