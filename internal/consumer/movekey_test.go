package consumer_test

import (
	"testing"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

const clean = "https://contoso-clean.vault.azure.net"

// atAnotherKey are the kinds that go to another key, and how they are set to the first: to a version, or so that they
// follow it.
func atAnotherKey() map[string]struct {
	id      string
	pinned  bool // it can be set to a version
	follows bool // it can follow
	vault   string
} {
	type kind = struct {
		id      string
		pinned  bool
		follows bool
		vault   string
	}
	return map[string]kind{
		"storage":   {"Microsoft.Storage/storageAccounts/one", true, true, clean},
		"scope":     {"Microsoft.Storage/storageAccounts/account/encryptionScopes/one", true, true, clean},
		"cosmos":    {"Microsoft.DocumentDB/databaseAccounts/one", false, true, clean},
		"ai":        {"Microsoft.CognitiveServices/accounts/one", true, false, weu},
		"disk":      {"Microsoft.Compute/diskEncryptionSets/one", true, true, clean},
		"sql":       {"Microsoft.Sql/servers/one", true, true, clean},
		"sqldb":     {"Microsoft.Sql/servers/server/databases/one", true, true, clean},
		"sqlmi":     {"Microsoft.Sql/managedInstances/one", true, true, clean},
		"acr":       {"Microsoft.ContainerRegistry/registries/one", true, true, clean},
		"eventhubs": {"Microsoft.EventHub/namespaces/one", true, true, clean},
		"postgres":  {"Microsoft.DBforPostgreSQL/flexibleServers/one", true, true, clean},
		"mysql":     {"Microsoft.DBforMySQL/flexibleServers/one", true, false, weu},
	}
}

// What followed the old key by itself follows the new one, and what was set to a version is set to one. The emulator's
// services really encrypt under what they are set to.
func TestEveryEmulatedServiceGoesToAnotherKeyAndReadsOn(t *testing.T) {
	t.Parallel()
	for kind, of := range atAnotherKey() {
		for _, follows := range []bool{false, true} {
			if follows && !of.follows || !follows && !of.pinned {
				continue
			}
			name := kind + ", pinned"
			if follows {
				name = kind + ", follows"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				goesToAnotherKey(t, kind, of.id, of.vault, follows)
			})
		}
	}
}

func goesToAnotherKey(t *testing.T, kind, id, vault string, follows bool) {
	e := newEmulated(t)
	old, name := e.rotate(), "one"
	pinned := ",key=" + weu + "/keys/cmk/" + old
	at := pinned
	if follows {
		at = ",key=" + weu + "/keys/cmk"
	}
	switch kind {
	case "scope":
		e.make("storage=account" + pinned)
		name = "account/one"
	case "sqldb":
		e.make("sql=server" + pinned)
		name = "server/one"
	}
	e.make(kind + "=" + name + at)
	if err := e.Consumers().Write(t.Context(), name, []byte("before")); err != nil {
		t.Fatal(err)
	}
	id = emulatedScope + id
	e.watcher.Look(t.Context(), cmk(id)) // some changes are unfinished for one look
	next, err := e.Vault(vault[len("https://"):]).AddForeignVersion("cmk-2")
	if err != nil {
		t.Fatal(err)
	}
	move := consumer.Move{ID: id, Vault: weu, Key: "cmk", From: old, NewVault: vault, NewKey: "cmk-2", Version: next}
	if follows {
		move.From = ""
	}
	if err := e.mover().Repoint(t.Context(), move); err != nil {
		t.Fatal(err)
	}
	to := key.Policy{Key: "cmk-2", Vaults: []key.Vault{{Name: "to", URL: vault, Kind: key.KeyVault}},
		Consumers: []key.Consumer{{ID: id}}}
	seen := e.watcher.Look(t.Context(), to).Consumers[0]
	if seen.Err != nil || seen.Key != "cmk-2" || seen.Vault != vault || seen.Follows != follows {
		t.Errorf("%+v", seen)
	}
	if seen.Uses != next && seen.Uses != "" {
		t.Errorf("it uses %s and not %s", seen.Uses, next)
	}
	if err := e.Consumers().Write(t.Context(), name, []byte("after")); err != nil {
		t.Error(err)
	}
	if r, ok := e.reads(name); !ok || r.InUse != vault+"/keys/cmk-2/"+next {
		t.Errorf("%+v", r)
	}
}

// An account stays in the vault of its first key, and keeps reading.
func TestAnAIAccountDoesNotLeaveItsVault(t *testing.T) {
	t.Parallel()
	e := newEmulated(t)
	old := e.rotate()
	e.make("ai=one,key=" + weu + "/keys/cmk/" + old)
	if err := e.Consumers().Write(t.Context(), "one", []byte("before")); err != nil {
		t.Fatal(err)
	}
	id := emulatedScope + "Microsoft.CognitiveServices/accounts/one"
	e.watcher.Look(t.Context(), cmk(id))
	next, err := e.Vault("contoso-clean.vault.azure.net").AddForeignVersion("cmk-2")
	if err != nil {
		t.Fatal(err)
	}
	err = e.mover().Repoint(t.Context(), consumer.Move{ID: id, Vault: weu, Key: "cmk", From: old, NewVault: clean,
		NewKey: "cmk-2", Version: next})
	wantErr(t, err, "stays in the vault")
	if key.ClassOf(err) != key.Refused {
		t.Errorf("%s: %v", key.ClassOf(err), err)
	}
	if r, ok := e.reads("one"); !ok || r.InUse != weu+"/keys/cmk/"+old {
		t.Errorf("%+v", r)
	}
}
