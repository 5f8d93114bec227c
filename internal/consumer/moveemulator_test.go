package consumer_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"testing"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// mover is a client with an identity of its own.
func (e *emulated) mover() *consumer.Client {
	e.t.Helper()
	transport := vault.HTTPClient(e.Transport())
	cred, err := vault.NewCredential(
		vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
		transport,
	)
	if err != nil {
		e.t.Fatal(err)
	}
	c, err := consumer.NewClient(consumer.ClientConfig{Credential: cred, Transport: transport,
		Budget: consumer.NewBudget(1e6, 1e6)})
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// reads reports whether a consumer can read everything that it wrote, and which version it uses.
func (e *emulated) reads(name string) (arm.Reading, bool) {
	for _, c := range e.Consumers().ReadEverything(e.t.Context()).Consumers {
		if c.Name == name {
			return c, len(c.Lost) == 0 && c.Read > 0
		}
	}
	return arm.Reading{}, false
}

// A service of the emulator refuses what the real one refuses, and really encrypts under what it is set to.
func TestEveryEmulatedServiceMovesAndReadsOn(t *testing.T) {
	t.Parallel()
	for kind, id := range map[string]string{
		"storage": "Microsoft.Storage/storageAccounts/one", "ai": "Microsoft.CognitiveServices/accounts/one",
		"disk": "Microsoft.Compute/diskEncryptionSets/one", "acr": "Microsoft.ContainerRegistry/registries/one",
		"eventhubs": "Microsoft.EventHub/namespaces/one", "postgres": "Microsoft.DBforPostgreSQL/flexibleServers/one",
		"mysql": "Microsoft.DBforMySQL/flexibleServers/one", "sql": "Microsoft.Sql/servers/one",
		"sqlmi": "Microsoft.Sql/managedInstances/one",
		"scope": "Microsoft.Storage/storageAccounts/account/encryptionScopes/one",
		"sqldb": "Microsoft.Sql/servers/server/databases/one",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			e := newEmulated(t)
			old, name := e.rotate(), "one"
			at := ",key=" + weu + "/keys/cmk/" + old
			switch kind {
			case "scope":
				e.make("storage=account" + at)
				name = "account/one"
			case "sqldb":
				e.make("sql=server" + at)
				name = "server/one"
			}
			e.make(kind + "=" + name + at)
			if err := e.Consumers().Write(t.Context(), name, []byte("before")); err != nil {
				t.Fatal(err)
			}
			id = emulatedScope + id
			e.watcher.Look(t.Context(), cmk(id)) // some changes are unfinished for one look
			next := e.rotate()
			move := consumer.Move{ID: id, Vault: weu, Key: "cmk", From: old, Version: next}
			if err := e.mover().Repoint(t.Context(), move); err != nil {
				t.Fatal(err)
			}
			seen := e.watcher.Look(t.Context(), cmk(id)).Consumers[0]
			if seen.Err != nil || seen.Uses != next || seen.Asked != next || service.NameOf(seen.ID) != "one" {
				t.Errorf("%+v", seen)
			}
			if err := e.Consumers().Write(t.Context(), name, []byte("after")); err != nil {
				t.Error(err)
			}
			if r, ok := e.reads(name); !ok || r.InUse != weu+"/keys/cmk/"+next {
				t.Errorf("%+v", r)
			}
		})
	}
}

// The emulator refuses a version that the service cannot use. The account stays where it was.
func TestAVersionThatTheServiceCannotUseIsRefused(t *testing.T) {
	t.Parallel()
	e := newEmulated(t)
	old := e.rotate()
	id := emulatedScope + "Microsoft.CognitiveServices/accounts/ai-1"
	e.make("ai=ai-1,key=" + weu + "/keys/cmk/" + old)
	e.watcher.Look(t.Context(), cmk(id))
	next := e.rotate()
	if err := e.Vault("contoso-weu.vault.azure.net").SetEnabled("cmk", next, false); err != nil {
		t.Fatal(err)
	}
	err := e.mover().Repoint(t.Context(), consumer.Move{ID: id, Vault: weu, Key: "cmk", From: old, Version: next})
	wantErr(t, err, "is disabled")
	if key.ClassOf(err) != key.Refused {
		t.Errorf("%s: %v", key.ClassOf(err), err)
	}
	if seen := e.watcher.Look(t.Context(), cmk(id)).Consumers[0]; seen.Uses != old {
		t.Errorf("%+v", seen)
	}
}

// A server of the emulator refuses a protector whose secondary does not know the key.
func TestAServerWithAGeoSecondaryMoves(t *testing.T) {
	t.Parallel()
	e := newEmulated(t)
	old := e.rotate()
	for _, name := range []string{"primary", "secondary"} {
		e.make("sql=" + name + ",key=" + weu + "/keys/cmk/" + old)
	}
	servers := emulatedScope + "Microsoft.Sql/servers/"
	c := e.mover()
	e.put(servers+"primary/databases/a", `{"location":"westeurope"}`)
	e.put(servers+"secondary/databases/a", `{"location":"westeurope","properties":{"createMode":"Secondary",
		"sourceDatabaseId":"`+servers+`primary/databases/a"}}`)
	next := e.rotate()
	if err := c.Repoint(t.Context(), consumer.Move{ID: servers + "primary", Vault: weu, Key: "cmk", From: old,
		Version: next}); err != nil {
		t.Fatal(err)
	}
	uses := e.uses(cmk(servers + "primary"))
	if uses["primary"] != next || uses["secondary"] != old {
		t.Errorf("%v", uses)
	}
}

// put makes a resource as a person would.
func (e *emulated) put(id, body string) {
	e.t.Helper()
	r := e.Consumers().Handle(e.t.Context(), arm.Request{Method: http.MethodPut, Path: id, Body: []byte(body),
		Query: url.Values{"api-version": {"2025-01-01"}}})
	if r.Status >= 300 {
		e.t.Fatalf("%s: %+v", id, r)
	}
}
