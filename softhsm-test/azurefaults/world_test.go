package azurefaults_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store"
	"github.com/keyd-project/keyd/internal/vault"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	keyName   = "sa-cmk-key"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmHost   = "contoso.managedhsm.azure.net"
)

var urls = []string{"https://" + vaultHost, "https://" + hsmHost}

const configuration = `instance: faults
state_dir: %[1]s/state
hsm: {module: %[2]s, token: %[3]q, pin_file: %[4]s}
azure: {credential: managed-identity}
vaults:
  weu: {url: https://` + vaultHost + `, kek: {bits: 2048}}
  mhsm: {url: https://` + hsmHost + `, kek: {bits: 2048}}
keys:
  ` + keyName + `:
    spec: RSA-2048
    vaults: [weu, mhsm]
    schedule: "@every %[5]s"
    floor: 0s
    budget: 1000
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
health: {look: 1m}
`

// settings are what a fault asks of its world.
type settings struct {
	replication time.Duration // of the Managed HSM
	tokenLife   time.Duration // by the emulator's clock; short: every call asks for a token
	timeout     time.Duration // of one try of a request
	proxy       bool          // the network can be spoiled (see spoil)
}

// world is one token, one Azure, and keyd's loop between them, on one clock.
type world struct {
	t      *testing.T
	dir    string
	emu    *emulator.Emulator
	proxy  *toxiproxy.Proxy // nil: none
	clock  clock
	policy key.Policy
	store  *store.Store
	hsm    *hsm.Client
	*rotate.Rotator

	cfg      *config.Config
	set      settings
	signIn   azcore.TokenCredential
	vaults   map[string]*vault.Client // by URL
	steps    int
	failures int
	events   []string
}

// clock is moved by the test alone. It begins two days back, so that a token which
// is expired by it is expired by the wall clock too, by which the SDK caches.
type clock struct {
	nanos atomic.Int64
	azure atomic.Int64 // how far Azure's clock is ahead of it
}

func (c *clock) now() time.Time       { return time.Unix(0, c.nanos.Load()) }
func (c *clock) azureNow() time.Time  { return c.now().Add(time.Duration(c.azure.Load())) }
func (c *clock) move(d time.Duration) { c.nanos.Add(int64(d)) }
func (c *clock) moveTo(t time.Time)   { c.nanos.Store(t.UnixNano()) }
func (c *clock) start()               { c.moveTo(time.Now().Add(-48 * time.Hour).Truncate(time.Hour)) }
func schedule(rotations int) string   { return (time.Hour / time.Duration(rotations)).String() }
func quiet() *slog.Logger             { return slog.New(slog.DiscardHandler) }

// newWorld makes a world in which keyd has not begun yet.
func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t, set: s}
	w.clock.start()
	var err error
	if w.dir, err = os.MkdirTemp(built.dir, "w"); err != nil {
		t.Fatal(err)
	}
	token := softhsmtest.New(t)
	life := s.tokenLife
	if life == 0 {
		life = 30 * 24 * time.Hour
	}
	w.emu, err = emulator.Start(emulator.Options{
		Vaults: []emulator.VaultConfig{
			{Host: vaultHost, Profile: emulator.KeyVaultPremium, PurgeProtection: true},
			{Host: hsmHost, Profile: emulator.ManagedHSM, PurgeProtection: true},
		},
		Now: w.clock.azureNow, TokenLifetime: life, ReplicationDelay: s.replication, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	rotations := 3
	if heavy() {
		rotations = 12
	}
	text := fmt.Sprintf(configuration, w.dir, token.Module, token.Label, token.PINFile, schedule(rotations))
	path := filepath.Join(w.dir, "keyd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	w.cfg, w.policy = cfg, cfg.Policies[0]
	if w.store, err = store.Open(cfg.StateDir, w.clock.now, nil); err != nil {
		t.Fatal(err)
	}
	if s.proxy {
		w.proxy = newProxy(t, w.emu.ProxyURL())
	}
	w.hsm = hsmSide(t, path, token)
	w.newClients()
	w.Rotator = rotate.New(rotate.Config{
		Instance: cfg.Instance, Generator: "keyd test", HSM: w.hsm, Store: w.store,
		Vaults: func(url string) rotate.Vault { return w.vaults[url] }, Clock: w.clock.now, Random: rand.Reader, Look: cfg.Health.Look,
		Emit: w.remember, Logger: quiet(),
	})
	return w
}

// hsmSide runs `keyd hsm` under the test's own supervisor.
func hsmSide(t *testing.T, configPath string, token *softhsmtest.Token) *hsm.Client {
	ctx, cancel := context.WithCancel(context.Background())
	sup := hsm.NewSupervisor(hsm.ChildConfig{
		Argv: []string{built.keyd, "hsm", "--config", configPath},
		Env:  slices.Concat(os.Environ(), token.Environ()), Stderr: io.Discard, Log: quiet(),
	})
	var running sync.WaitGroup
	running.Go(func() { _ = sup.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return sup.Client()
}

// newClients makes a real client for each vault. A client keeps within the vault's
// limits by the wall clock, in which this hour is seconds: new ones begin with a
// full allowance.
func (w *world) newClients() {
	w.t.Helper()
	transport := w.emu.Transport()
	if w.proxy != nil {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: w.proxy.Listen})
	}
	client := vault.HTTPClient(transport)
	var err error
	if w.signIn == nil {
		// The SDK caches tokens for the whole process, by client id.
		w.signIn, err = vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()}, client)
		if err != nil {
			w.t.Fatal(err)
		}
	}
	w.vaults = map[string]*vault.Client{}
	for _, v := range w.cfg.Vaults {
		w.vaults[v.URL], err = vault.New(vault.Config{
			Vault: v.Vault, KEKName: v.KEK.Name, CreateKEK: v.KEK.Create, KEKBits: v.KEK.Bits,
			Clock: w.clock.now, RequestTimeout: w.set.timeout,
		}, w.signIn, client, nil, nil)
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) end() {
	if w.store != nil {
		if err := w.store.Close(); err != nil {
			w.t.Error(err)
		}
	}
	if escapes := w.emu.Escapes(); len(escapes) > 0 {
		w.t.Errorf("calls would have left the machine: %v", escapes)
	}
	if err := w.emu.Close(); err != nil {
		w.t.Error(err)
	}
}

// remember keeps what the loop tells, for a failure's report.
func (w *world) remember(e status.Event) {
	if e.Phase == status.Begin {
		return
	}
	line := fmt.Sprintf("%s %d %s %s %s %s", e.Step, e.Generation, e.Vault, e.Phase, e.Detail, e.Error)
	if n := len(w.events); n > 0 && strings.HasSuffix(w.events[n-1], line) {
		return // it waits still
	}
	w.events = append(w.events, e.At.UTC().Format(time.TimeOnly)+" "+line)
}

// step is one step, and then the pause that the loop makes after it, on the clock
// of this world.
func (w *world) step() rotate.Step {
	w.t.Helper()
	timeout := cmp.Or(w.set.timeout, vault.DefaultRequestTimeout)
	if w.steps++; w.steps%8 == 0 {
		w.newClients()
	}
	// The SDK's own pauses between tries are on the wall clock: they are cut short.
	ctx := policy.WithRetryOptions(w.t.Context(), policy.RetryOptions{
		MaxRetries: 3, TryTimeout: timeout, RetryDelay: time.Millisecond, MaxRetryDelay: 5 * time.Millisecond,
	})
	s, err := w.StepKey(ctx, w.policy)
	switch {
	case err != nil:
		w.failures++
		w.clock.move(min(5*time.Minute, time.Second<<min(w.failures-1, 20)))
		w.clock.move(time.Second)
	case s.Acts():
		w.failures = 0
		w.clock.move(time.Second)
	default:
		now := w.clock.now()
		until := now.Add(w.Look)
		if !s.Until.IsZero() && s.Until.Before(until) {
			until = s.Until
		}
		w.clock.move(max(until.Sub(now), 10*time.Millisecond))
	}
	return s
}

func (w *world) record() key.Record {
	w.t.Helper()
	rec, err := w.store.Load(w.t.Context(), keyName)
	if err != nil {
		w.t.Fatal(err)
	}
	return rec
}
