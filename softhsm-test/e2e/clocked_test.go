package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/observe"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/vault"
)

// inside is keyd's loop in the test's own process, on a world's own state, token and vaults, with the world's clock.
// The daemon must not run at the same time.
type inside struct {
	*rotate.Rotator
	w      *world
	policy key.Policy
	vaults []key.VaultPolicy
	store  *bolt.Store
	hsm    *hsm.Client
	events []status.Event
}

// inside starts the HSM side as the daemon does, and ends it with the test.
func (w *world) inside() *inside {
	w.t.Helper()
	cfg, err := config.Load(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	in := &inside{w: w, policy: cfg.Policies[0], vaults: cfg.VaultPolicies()}
	if in.store, err = bolt.Open(cfg.StateDir, w.now, nil); err != nil {
		w.t.Fatal(err)
	}
	in.hsm = w.hsmSide()
	clients := map[string]*vault.Client{}
	// Its own client id: azidentity caches tokens for the whole process.
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
		vault.HTTPClient(w.emu.Transport()))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, v := range cfg.Vaults {
		clients[v.URL], err = vault.New(vault.Config{Vault: v.Vault, KEKName: v.KEK.Name, CreateKEK: true,
			KEKBits: v.KEK.Bits, Clock: w.now, Attested: v.KEK.Attested},
			cred, vault.HTTPClient(w.emu.Transport()), nil, nil)
		if err != nil {
			w.t.Fatal(err)
		}
	}
	users, move := in.users()
	observer := observe.New(observe.Config{
		Instance: cfg.Instance, HSM: in.hsm, Records: in.store, Clock: w.now, Consumers: users,
		Vaults: func(url string) observe.Vault { return clients[url] },
	})
	in.Rotator = rotate.New(rotate.Config{
		Instance: cfg.Instance, Generator: "keyd test", HSM: in.hsm, Store: in.store, Observer: observer,
		Vaults: func(url string) rotate.Vault { return clients[url] },
		Clock:  w.now, Random: rand.Reader, Look: time.Second, Repoint: move,
		Emit: func(e status.Event) { in.events = append(in.events, e) }, Logger: slog.New(slog.DiscardHandler),
	})
	w.t.Cleanup(func() {
		if err := in.store.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return in
}

// hsmSide runs `keyd hsm` under the test's own supervisor.
func (w *world) hsmSide() *hsm.Client {
	ctx, cancel := context.WithCancel(context.Background())
	sup := hsm.NewSupervisor(hsm.ChildConfig{
		Argv: []string{built.keyd, "hsm", "--config", w.path("keyd.yaml")},
		Env:  slices.Concat(w.env), Stderr: io.Discard, Log: slog.New(slog.DiscardHandler),
	})
	var running sync.WaitGroup
	running.Go(func() { _ = sup.Run(ctx) })
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return sup.Client()
}

// step runs one step; a failed one does not fail the test.
func (in *inside) step() (plan.Step, error) {
	for _, v := range in.vaults {
		for range 5 {
			if s, err := in.StepVault(in.w.t.Context(), v); err != nil || !s.Acts() {
				break
			}
		}
	}
	return in.StepKey(in.w.t.Context(), in.policy)
}

// later makes the next step look again, as a reload does.
func (in *inside) later() {
	for _, v := range in.vaults {
		in.Observer.DropVault(v.URL)
	}
	in.Observer.Drop(keyName)
}

// settle steps until nothing needs doing now, and returns the last step.
func (in *inside) settle() plan.Step {
	in.w.t.Helper()
	for range 60 {
		s, err := in.step()
		if err != nil && key.ClassOf(err) == key.Fatal {
			in.w.t.Fatal(err)
		}
		if err == nil && !s.Acts() {
			return s
		}
	}
	in.w.t.Fatalf("the loop does not come to rest: %v", in.events)
	return plan.Step{}
}

func (in *inside) record() record.Record {
	in.w.t.Helper()
	rec, err := in.store.Load(in.w.t.Context(), keyName)
	if err != nil {
		in.w.t.Fatal(err)
	}
	return rec
}

// later moves the clock of this world forward.
func (w *world) later(d time.Duration) { w.ahead.Add(int64(d)) }

// pairs lists the instance's pairs in the token. No daemon may run.
func (w *world) pairs() []key.Object {
	w.t.Helper()
	if w.daemon != nil {
		w.t.Fatal("stop the daemon before its token is looked at")
	}
	objects, err := w.hsmSide().Inventory(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return objects
}

// wantPairs requires exactly one whole pair for each of the generations 1 to n.
func (w *world) wantPairs(n int) {
	w.t.Helper()
	count := map[int]int{}
	pairs := w.pairs()
	for _, o := range pairs {
		if o.Complete && !o.Label.Pending {
			count[o.Label.Number]++
		}
	}
	whole := len(pairs) == n
	for i := 1; i <= n; i++ {
		whole = whole && count[i] == 1
	}
	if !whole {
		text, _ := json.Marshal(pairs)
		w.t.Errorf("the token does not hold exactly one pair for each of %d generations: %s", n, text)
	}
}
