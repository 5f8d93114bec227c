package consumer_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/service"
	"github.com/keyd-project/keyd/internal/vault"
)

// emulated is the emulator with consumers that really encrypt under a key, and a watcher that asks it over TLS.
type emulated struct {
	*emulator.Emulator
	t       *testing.T
	clock   *clock
	watcher *consumer.Watcher
}

const emulatedScope = "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/emulator/providers/"

func newEmulated(t *testing.T) *emulated { return newEmulatedAs(t, rand.Text(), false) }

// newEmulatedAs is newEmulated with keyd's identity, for which roles may count. Each test has a client id of its own:
// azidentity caches tokens for the whole process.
func newEmulatedAs(t *testing.T, id string, roles bool) *emulated {
	t.Helper()
	at := &clock{time.Now().Truncate(time.Second)}
	e, err := emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{{Host: "contoso-weu.vault.azure.net", PurgeProtection: true},
			{Host: "contoso-clean.vault.azure.net", PurgeProtection: true}},
		Now: at.Now, ConsumersByHand: true, ResourcePage: 1,
		ResourceRoles: roles, TokenLifetime: 365 * 24 * time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	transport := vault.HTTPClient(e.Transport())
	cred, err := vault.NewCredential(
		vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: id},
		transport,
	)
	if err != nil {
		t.Fatal(err)
	}
	c, err := consumer.NewClient(consumer.ClientConfig{Credential: cred, Transport: transport,
		Budget: consumer.NewBudget(1e6, 1e6)})
	if err != nil {
		t.Fatal(err)
	}
	w := consumer.NewWatcher(consumer.Config{Clock: at.Now, Logger: slog.New(slog.DiscardHandler)})
	w.Use(c, []string{"00000000-0000-4000-8000-000000000000"})
	return &emulated{e, t, at, w}
}

// rotate makes a new version of the key.
func (e *emulated) rotate() string {
	e.t.Helper()
	id, err := e.Vault("contoso-weu.vault.azure.net").AddForeignVersion("cmk")
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func (e *emulated) make(spec string) {
	e.t.Helper()
	w, err := arm.ParseSpec(spec)
	if err == nil {
		err = e.Consumers().Make(e.t.Context(), w)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// poll makes every consumer look for a new version.
func (e *emulated) poll() {
	e.clock.now = e.clock.now.Add(25 * time.Hour)
	e.Consumers().Poll(e.t.Context())
}

// uses is what each consumer uses, by its name.
func (e *emulated) uses(p key.Policy) map[string]string {
	e.t.Helper()
	uses := map[string]string{}
	for _, c := range e.watcher.Look(e.t.Context(), p).Consumers {
		if c.Err != nil {
			e.t.Errorf("%s: %v", c.ID, c.Err)
		}
		uses[service.NameOf(c.ID)] = c.Uses
	}
	return uses
}

// The consumers of the emulator sign in, wrap and unwrap, so what they show is what they use.
func TestTheWatcherSeesConsumersMoveToANewVersion(t *testing.T) {
	e := newEmulated(t)
	const disk, ai = emulatedScope + "Microsoft.Compute/diskEncryptionSets/des-1",
		emulatedScope + "Microsoft.CognitiveServices/accounts/ai-1"
	old := e.rotate()
	e.make("disk=des-1,key=" + weu + "/keys/cmk")
	e.make("ai=ai-1,key=" + weu + "/keys/cmk/" + old)
	if err := e.Consumers().Write(t.Context(), "des-1", []byte("a disk")); err != nil {
		t.Fatal(err)
	}
	e.watcher.Look(t.Context(), cmk(ai)) // the emulator's account is unfinished for one look
	if diff := cmp.Diff(map[string]string{"des-1": old, "ai-1": old}, e.uses(cmk(disk, ai))); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	next := e.rotate()
	e.poll()
	seen := e.watcher.Look(t.Context(), cmk(disk)).Consumers[0]
	if seen.Uses != next || len(seen.Needs) != 1 || seen.Needs[0] != old || !seen.Follows {
		t.Errorf("while its disk moves: %+v", seen)
	}
	e.poll()
	seen = e.watcher.Look(t.Context(), cmk(disk)).Consumers[0]
	if seen.Uses != next || len(seen.Needs) != 0 || len(seen.Callers) != 1 || seen.Left[old].IsZero() {
		t.Errorf("when its disk has moved: %+v", seen)
	}
	if diff := cmp.Diff(map[string]string{"ai-1": old}, e.uses(cmk(ai))); diff != "" {
		t.Errorf("the pinned account (-want +got):\n%s", diff)
	}
}

func TestTheEmulatorsRefusalsAreErrorsWithARemedy(t *testing.T) {
	e := newEmulated(t)
	for _, status := range []int{http.StatusForbidden, http.StatusUnauthorized} {
		rule := e.Fail(emulator.Rule{Operation: "resource", Status: status})
		c := e.watcher.Look(t.Context(), cmk(cosmos)).Consumers[0]
		var failed *consumer.Error
		if !errors.As(c.Err, &failed) || failed.Status != status || failed.Hint == "" || failed.ID != cosmos {
			t.Errorf("%d: %v", status, c.Err)
		}
		rule.Clear()
	}
	wantErr(t, e.watcher.Look(t.Context(), cmk(cosmos)).Consumers[0].Err, "HTTP 404 ResourceNotFound")
}

// Every kind of consumer that the emulator has really encrypts under the key. The watcher sees what each of them uses,
// and finds by a search those whose properties name the vault.
func TestTheWatcherUnderstandsAndFindsEveryEmulatedService(t *testing.T) {
	e := newEmulated(t)
	old := e.rotate()
	hidden := []string{"eventhubs=eh-1", "postgres=pg-1"} // they show no version while they follow
	pinned := []string{"ai=ai-1", "mysql=my-1"}
	follow := []string{"storage=st1", "scope=st1/s", "cosmos=cosmos-1", "disk=des-1", "sql=sql-1", "sqldb=sql-1/db",
		"sqlmi=mi-1", "acr=acr1"}
	for _, spec := range slices.Concat(hidden, pinned, follow) {
		e.make(spec + ",key=" + weu + "/keys/cmk")
	}
	p := discovering()
	e.watcher.Look(t.Context(), p) // the emulator's changes are unfinished for one look
	want := func(newest string) map[string]string {
		uses := map[string]string{"eh-1": "", "pg-1": "", "ai-1": old, "my-1": old}
		for _, name := range []string{"st1", "s", "cosmos-1", "des-1", "sql-1", "db", "mi-1", "acr1"} {
			uses[name] = newest
		}
		return uses
	}
	if diff := cmp.Diff(want(old), e.uses(p)); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	newest := e.rotate()
	e.poll()
	e.poll()
	if diff := cmp.Diff(want(newest), e.uses(p)); diff != "" {
		t.Errorf("after a rotation (-want +got):\n%s", diff)
	}
	for _, c := range e.watcher.Last("cmk").Consumers {
		if c.Vault != weu || c.Key != "cmk" || len(c.Callers) != 1 ||
			(c.Uses == newest) != (c.Left[old] != time.Time{}) {
			t.Errorf("%+v", c)
		}
	}
	if unseen := e.watcher.Last("cmk").Unseen; len(unseen) > 0 {
		t.Errorf("unseen: %q", unseen)
	}
}

// Resource Graph does not mention what keyd's identity may not read. keyd says so itself.
func TestASearchWithFewRightsIsSaid(t *testing.T) {
	id := rand.Text()
	e := newEmulatedAs(t, id, true)
	e.rotate()
	e.make("cosmos=seen,key=" + weu + "/keys/cmk")
	e.make("disk=hidden,key=" + weu + "/keys/cmk")
	scope := emulatedScope + "Microsoft.DocumentDB/databaseAccounts/seen"
	for _, step := range []struct {
		scope  string
		found  int
		unseen int
	}{
		{scope, 1, 1}, {"/subscriptions/00000000-0000-4000-8000-000000000000", 2, 0},
	} {
		err := e.Consumers().Assign(arm.RoleAssignment{Principal: id, Role: "Reader", Scope: step.scope})
		if err != nil {
			t.Fatal(err)
		}
		u := e.watcher.Look(t.Context(), discovering())
		if len(u.Consumers) != step.found || len(u.Unseen) != step.unseen {
			t.Errorf("with Reader at %s: %d consumers, unseen %q", step.scope, len(u.Consumers), u.Unseen)
		}
	}
}
