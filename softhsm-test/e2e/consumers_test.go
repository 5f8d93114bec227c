package e2e_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// aDayPerSecond is how fast the consumers in this world live.
const aDayPerSecond = 24 * 3600

// estate is the consumers of a world. They look for new versions, write and read all the time.
type estate struct {
	*world
	resources *armresources.Client

	mu     sync.Mutex
	names  []string
	rounds int
	err    error // the first failure
}

func newEstate(t *testing.T) *estate {
	t.Helper()
	w := newWorld(t, func(s *settings) { s.consumerSpeed = aDayPerSecond })
	w.env = append(w.env, "KEYD_KILL_FILE="+w.path("kill"))
	client := vault.HTTPClient(w.emu.Transport())
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()}, client)
	if err != nil {
		t.Fatal(err)
	}
	c, err := armresources.NewClient("00000000-0000-4000-8000-000000000000", cred,
		&azarm.ClientOptions{ClientOptions: policy.ClientOptions{Transport: client}})
	if err != nil {
		t.Fatal(err)
	}
	return &estate{world: w, resources: c}
}

// add makes consumers under a vault's key: "storage=name" is versionless, and "storage=name@" is pinned to the
// vault's newest version.
func (e *estate) add(vault string, consumers ...string) {
	e.t.Helper()
	id := e.vault[vault].URL() + "/keys/" + keyName
	versions := e.versions(vault)
	for _, c := range consumers {
		head, pinned := strings.CutSuffix(c, "@")
		text := head + ",key=" + id
		if pinned {
			text += "/" + versions[len(versions)-1]
		}
		w, err := arm.ParseSpec(text)
		if err == nil {
			err = e.emu.Consumers().Make(e.t.Context(), w)
		}
		if err != nil {
			e.t.Fatalf("%s: %v", text, err)
		}
		_, name, _ := strings.Cut(head, "=")
		e.mu.Lock()
		e.names = append(e.names, name)
		e.mu.Unlock()
	}
}

// live runs one round of every consumer's work.
func (e *estate) live() error {
	ctx := e.t.Context()
	e.mu.Lock()
	names := slices.Clone(e.names)
	e.mu.Unlock()
	e.emu.Consumers().Poll(ctx)
	var errs []error
	for _, name := range names {
		errs = append(errs, e.emu.Consumers().Write(ctx, name, []byte(rand.Text())))
	}
	return errors.Join(append(errs, e.emu.Consumers().ReadEverything(ctx).Err())...)
}

// whileLiving runs f while the consumers live, and requires that they had no failure. They do not write so often that
// reading takes longer than a rotation.
func (e *estate) whileLiving(f func()) {
	e.t.Helper()
	stop := make(chan struct{})
	var living sync.WaitGroup
	living.Go(func() {
		pause := time.NewTicker(500 * time.Millisecond)
		defer pause.Stop()
		for {
			err := e.live()
			e.mu.Lock()
			e.rounds++
			if e.err == nil {
				e.err = err
			}
			e.mu.Unlock()
			select {
			case <-stop:
				return
			case <-pause.C:
			}
		}
	})
	defer func() {
		close(stop)
		living.Wait()
		if e.err != nil {
			e.t.Errorf("while the consumers lived: %v", e.err)
		}
	}()
	f()
}

func (e *estate) wantReadable() arm.Report {
	e.t.Helper()
	r := e.emu.Consumers().ReadEverything(e.t.Context())
	if err := r.Err(); err != nil || len(r.Consumers) != len(e.names) {
		e.t.Errorf("of %d consumers, not every one can read everything it ever wrote: %v", len(r.Consumers), err)
	}
	return r
}

// waitFollowed waits until every consumer that follows its key uses the newest version.
func (e *estate) waitFollowed() {
	e.t.Helper()
	behind := func() (names []string) {
		for _, c := range e.emu.Consumers().ReadEverything(e.t.Context()).Consumers {
			for _, v := range e.vault {
				versions := v.Versions(keyName)
				if c.Follows && strings.HasPrefix(c.InUse, v.URL()) &&
					(!strings.HasSuffix(c.InUse, versions[len(versions)-1].ID) || len(c.Previous) > 0) {
					names = append(names, c.Name)
				}
			}
		}
		return names
	}
	if err := poll(patience, func() bool { return len(behind()) == 0 }, nil); err != nil {
		e.t.Fatalf("they do not follow: %v", behind())
	}
}

// repoint does what an operator does for consumers that do not follow their key: it
// sets the newest version by Resource Manager.
func (e *estate) repoint() {
	e.t.Helper()
	for _, c := range e.emu.Consumers().ReadEverything(e.t.Context()).Consumers {
		if c.Follows {
			continue
		}
		for name, v := range e.vault {
			if strings.HasPrefix(c.InUse, v.URL()) {
				versions := e.versions(name)
				e.patch(c, v.URL(), versions[len(versions)-1])
			}
		}
	}
}

func (e *estate) patch(c arm.Reading, vaultURL, version string) {
	e.t.Helper()
	id := vaultURL + "/keys/" + keyName + "/" + version
	text := map[string]string{
		"Microsoft.Storage/storageAccounts": `{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{` +
			`"keyvaulturi":"` + vaultURL + `","keyname":"` + keyName + `","keyversion":"` + version + `"}}}`,
		"Microsoft.CognitiveServices/accounts": `{"encryption":{"keySource":"Microsoft.KeyVault",` +
			`"keyVaultProperties":{"keyVaultUri":"` + vaultURL + `","keyName":"` + keyName + `","keyVersion":"` +
			version + `"}}}`,
		"Microsoft.DocumentDB/databaseAccounts": `{"keyVaultKeyUri":"` + id + `"}`,
		"Microsoft.Compute/diskEncryptionSets":  `{"activeKey":{"keyUrl":"` + id + `"}}`,
	}[c.Type]
	var properties any
	if err := json.Unmarshal([]byte(text), &properties); err != nil {
		e.t.Fatal(err)
	}
	p, err := e.resources.BeginUpdateByID(e.t.Context(), c.ID, "2025-01-01",
		armresources.GenericResource{Properties: properties}, nil)
	for err == nil && !p.Done() {
		_, err = p.Poll(e.t.Context())
	}
	if err == nil {
		_, err = p.Result(e.t.Context())
	}
	if err != nil {
		e.t.Fatalf("repointing %s: %v", c.Name, err)
	}
}

// wantEnabled requires which of a vault's versions are enabled, oldest first.
func (e *estate) wantEnabled(vault string, want ...bool) {
	e.t.Helper()
	var enabled []bool
	for _, v := range e.vault[vault].Versions(keyName) {
		enabled = append(enabled, v.Enabled)
	}
	if !slices.Equal(enabled, want) {
		e.t.Errorf("%s: enabled are %v, not %v", vault, enabled, want)
	}
}

// threeDaysAgo: three days ago keyd's loop, in this process, made two generations, and the consumers moved to them.
func (e *estate) threeDaysAgo() {
	e.elsewhen(-72*time.Hour, func(in *inside) {
		in.settle()
		e.add("weu", "storage=st", "storage=st-pinned@", "cosmos=db", "cosmos=db-pinned@", "disk=des",
			"disk=des-pinned@", "ai=ai")
		if err := e.live(); err != nil {
			in.w.t.Error(err)
		}
		for _, name := range e.names {
			if err := e.emu.Consumers().Backup(name, 48*time.Hour); err != nil {
				in.w.t.Error(err)
			}
		}
		if _, _, err := in.Request(in.w.t.Context(), in.policy,
			rotate.Wanted{Actor: "test", Reason: "drill"}); err != nil {
			in.w.t.Fatal(err)
		}
		if s := in.settle(); s.Kind != plan.Idle {
			in.w.t.Fatalf("the loop ends with %s: %s", s.Kind, s.Why)
		}
		e.later(time.Hour)
		if err := e.live(); err != nil {
			in.w.t.Error(err)
		}
	})
}

// Consumers of all four kinds, versionless and pinned, live through everything that keyd does to their key. They lose
// nothing that they wrote, and can read it all the time.
func TestEveryConsumerReadsEverythingItEverWrote(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	e.threeDaysAgo()
	e.repoint()
	e.retireAfter("1d")
	e.whileLiving(func() {
		e.start()
		e.wait("keyd answers", func(status.Snapshot, status.Key) bool { return true })
		e.must("retire", keyName, "--yes", "--reason", "as shown")
		e.wait("the retire rule has disabled generation 1", func(_ status.Snapshot, k status.Key) bool {
			return k.Generations[0].Placements[0].State == key.Disabled
		})
		for n := 3; n <= 4; n++ {
			e.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s")
			e.waitGeneration(n)
			e.waitFollowed()
		}
		e.stop()
		e.refuteGeneration5()
		e.must("resume", keyName, "--reason", "the vault was fixed")
		e.waitGeneration(5)

		e.set.vaults = []string{"weu", "mhsm"}
		e.configure()
		e.retireAfter("1d")
		e.must("reload")
		e.wait("the new vault has every generation that is not retired", func(_ status.Snapshot, k status.Key) bool {
			return k.State == status.StateOK && len(e.versions("mhsm")) == 4
		})
		e.add("mhsm", "storage=mst", "storage=mst-pinned@", "cosmos=mdb", "disk=mdes", "disk=mdes-pinned@", "acr=mcr")
		e.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s")
		e.waitGeneration(6)
		e.waitFollowed()
	})
	e.stop()
	if e.rounds < 10 {
		t.Errorf("the consumers lived for %d rounds only", e.rounds)
	}
	const off, on = false, true
	// Generations 1 to 5; the fifth was refuted, so 4 came again, then 5, then 6.
	e.wantEnabled("weu", off, on, on, on, on, on, on, on)
	e.wantEnabled("mhsm", on, on, on, on, on)
	e.repoint()
	e.elsewhen(25*time.Hour, func(in *inside) {
		if err := e.live(); err != nil {
			in.w.t.Error(err)
		}
		for range 12 { // the rule disables one version a minute
			in.settle()
			e.later(2 * time.Minute)
		}
	})
	e.wantEnabled("weu", off, off, off, off, on, off, off, on) // a refuted version stays enabled
	e.wantEnabled("mhsm", off, off, off, off, on)
	if err := e.live(); err != nil {
		t.Error(err)
	}
	items := 0
	for _, c := range e.wantReadable().Consumers {
		items += c.Read
	}
	t.Logf("%d consumers read all %d items they ever wrote, after %d rounds", len(e.names), items, e.rounds)
}

// refuteGeneration5 makes the vault show another modulus for generation 5 than keyd imported, between its import and
// its proof.
func (e *estate) refuteGeneration5() {
	e.t.Helper()
	e.startMortal()
	e.wait("the HSM side is up", func(s status.Snapshot, _ status.Key) bool { return s.HSM.Up })
	e.arm("save-after imported")
	e.ask()
	e.awaitDeath("save-after imported")
	if err := e.vault["weu"].SwapModulus(keyName, ""); err != nil {
		e.t.Fatal(err)
	}
	e.waitFollowed() // the consumers take the refuted version into use
	e.start()
	e.waitHold(key.HoldRefuted)
	e.waitFollowed() // and go back with keyd
}

// The test above must be able to fail.
func TestAVersionDisabledByHandBreaksExactlyItsUsers(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	e.start()
	e.waitGeneration(1)
	e.add("weu", "storage=st", "storage=st-pinned@", "cosmos=db", "disk=des", "disk=des-pinned@", "ai=ai")
	if err := e.live(); err != nil {
		t.Fatal(err)
	}
	if err := e.emu.Consumers().Backup("db", time.Hour); err != nil {
		t.Fatal(err)
	}
	e.whileLiving(func() {
		e.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s")
		e.waitFollowed()
	})
	e.stop()
	e.wantReadable()
	versions := e.versions("weu")
	e.wantLost(versions[0], "st-pinned", "db", "des-pinned", "ai") // db: only its backup
	e.wantLost(versions[1], "st", "db", "des")
}

// wantLost requires that disabling a version affects exactly these consumers, that they
// say why, and that enabling it restores everything.
func (e *estate) wantLost(version string, names ...string) {
	e.t.Helper()
	e.setEnabled(version, false)
	var lost []string
	for _, c := range e.emu.Consumers().ReadEverything(e.t.Context()).Consumers {
		for _, l := range c.Lost {
			if !strings.HasSuffix(l.Version, version) || !strings.Contains(l.Why, "KeyDisabled") {
				e.t.Errorf("%s: %+v does not name version %s and that it is disabled", c.Name, l, version)
			}
		}
		if len(c.Lost) > 0 {
			lost = append(lost, c.Name)
		}
	}
	if !slices.Equal(lost, names) {
		e.t.Errorf("without version %s, %v cannot read; that should be %v", version, lost, names)
	}
	e.setEnabled(version, true)
	e.wantReadable()
}

func (e *estate) setEnabled(version string, enabled bool) {
	e.t.Helper()
	if err := e.vault["weu"].SetEnabled(keyName, version, enabled); err != nil {
		e.t.Fatal(err)
	}
}
