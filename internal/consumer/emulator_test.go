package consumer_test

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
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

func newEmulated(t *testing.T) *emulated {
	t.Helper()
	at := &clock{time.Now().Truncate(time.Second)}
	e, err := emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{{Host: "contoso-weu.vault.azure.net", PurgeProtection: true}},
		Now:    at.Now, ConsumersByHand: true, TokenLifetime: 365 * 24 * time.Hour,
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
	// Its own client id: azidentity caches tokens for the whole process.
	cred, err := vault.NewCredential(
		vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
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
	w.Use(c, nil)
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

// uses is what each consumer uses, by its id.
func (e *emulated) uses(p key.Policy) map[string]string {
	e.t.Helper()
	uses := map[string]string{}
	for _, c := range e.watcher.Look(e.t.Context(), p).Consumers {
		if c.Err != nil {
			e.t.Errorf("%s: %v", c.ID, c.Err)
		}
		uses[c.ID] = c.Uses
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
	if diff := cmp.Diff(map[string]string{disk: old, ai: old}, e.uses(cmk(disk, ai))); diff != "" {
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
	if diff := cmp.Diff(map[string]string{ai: old}, e.uses(cmk(ai))); diff != "" {
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
