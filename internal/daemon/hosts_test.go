package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/leader"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/storetest"
	"github.com/keyd-project/keyd/internal/term"
)

// twoHosts are two daemons on one store, each with its own files. Neither runs.
func twoHosts(t *testing.T) (a, b *Daemon, paths []string) {
	t.Helper()
	engine := storetest.NewMemory(time.Now)
	var hosts []*Daemon
	for _, name := range []string{"host-a", "host-b"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "keyd.yaml")
		write(t, path, fmt.Sprintf(basic, dir))
		cfg, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := buildOn(
			Options{ConfigPath: path, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
				HSMCommand: []string{"false"}, host: name},
			cfg, func(reg prometheus.Registerer) (Store, error) {
				return shared.Open(t.Context(), engine,
					shared.Options{Dir: t.TempDir(), Host: name, Now: time.Now, Registerer: reg})
			},
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.store.Close() })
		hosts, paths = append(hosts, d), append(paths, path)
	}
	return hosts[0], hosts[1], paths
}

// led has a lead and b follow; the context is that of the term.
func led(t *testing.T, a, b *Daemon) context.Context {
	t.Helper()
	terms := make(chan context.Context, 2)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	start := func(d *Daemon) {
		running.Go(func() {
			_ = d.elector.Run(ctx, func(ctx context.Context) error {
				terms <- ctx
				<-ctx.Done()
				return ctx.Err()
			})
		})
	}
	t.Cleanup(func() { stop(); running.Wait() })
	start(a)
	under := <-terms
	start(b)
	for !b.elector.State().Known() {
		<-b.ledAnew
	}
	return under
}

// heard has each host report of itself and read what the others reported, twice: one report may be an old one.
func heard(t *testing.T, hosts ...*Daemon) {
	t.Helper()
	for range 2 {
		for _, d := range hosts {
			d.hosts.sent = 0
			d.follow(t.Context())
			d.report(t.Context())
		}
		for _, d := range hosts {
			d.readReports(t.Context())
		}
	}
}

func TestAFollowerShowsWhatTheLeaderPublished(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	heard(t, a, b)
	a.noteHSM(key.HSMInfo{Model: "the leader's"}, nil)
	if _, err := a.publishNow(under); err != nil {
		t.Fatal(err)
	}
	b.readShown(t.Context())
	want, got := a.Snapshot(status.Selection{}), b.Snapshot(status.Selection{})
	if got.HSM.Info.Model != "the leader's" || len(got.Problems) == 0 {
		t.Errorf("the follower shows the HSM %q and %d problems", got.HSM.Info.Model, len(got.Problems))
	}
	if diff := cmp.Diff(problemTexts(want), problemTexts(got)); diff != "" {
		t.Errorf("problems (-leader +follower):\n%s", diff)
	}
	for host, h := range map[string]*status.Hosts{"host-a": want.Hosts, "host-b": got.Hosts} {
		if h.Here != host || h.Leader != "host-a" || h.Epoch != 1 || len(h.Hosts) != 2 {
			t.Errorf("%s shows %+v", host, h)
		}
	}
}

func problemTexts(s status.Snapshot) (texts []string) {
	for _, p := range s.Problems {
		texts = append(texts, p.Text)
	}
	return texts
}

func TestAFollowerShowsAPauseAtOnce(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	if _, err := a.publishNow(under); err != nil {
		t.Fatal(err)
	}
	b.readShown(t.Context())
	if err := b.Pause(t.Context(), "uid 0 (root)", "one", "maintenance"); err != nil {
		t.Fatal(err)
	}
	if k, _ := b.Snapshot(status.Selection{}).Key("one"); k.Hold == nil || k.State != status.StateHeld {
		t.Errorf("the follower shows %+v", k)
	}
}

func TestTheLeaderComesToWhatPersonsAskedFor(t *testing.T) {
	for name, test := range map[string]struct {
		entry chain.Entry
		want  bool
	}{
		"a person, of a key":   {chain.Entry{Event: chain.RotationRequested, Key: "one", Actor: "uid 0 (root)"}, true},
		"a person, of a vault": {chain.Entry{Event: chain.KEKRequested, Key: "https://x", Actor: "uid 0 (root)"}, true},
		"a person, of no key":  {chain.Entry{Event: chain.BackupTaken, Actor: "uid 0 (root)"}, false},
		"the leader, of a key": {chain.Entry{Event: chain.Imported, Key: "one", Actor: "keyd"}, false},
		"a daemon, of its own": {chain.Entry{Event: chain.DaemonStarted, Actor: "keyd"}, false},
	} {
		if got := wanted(test.entry); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestAFollowerShowsTheLeadersSteps(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	b.follow(t.Context())
	events := b.Subscribe(t.Context())
	entry := chain.Entry{
		Key:   "one",
		Event: chain.Imported,
		Actor: "keyd",
		Time:  time.Now(),
		Fields: map[string]string{
			"vault": "https://weu-keyd-test.vault.azure.net", "version": "v1"},
	}
	if err := a.store.Append(under, entry); err != nil {
		t.Fatal(err)
	}
	b.follow(t.Context())
	if e := <-events; e.Key != "one" || e.Step != "import" || e.Phase != status.Done || e.Vault != "weu" ||
		e.Version != "v1" {
		t.Errorf("the follower shows %+v", e)
	}
}

func TestOnlyTheLeaderDoesWhatOnlyTheLeaderMay(t *testing.T) {
	a, b, _ := twoHosts(t)
	led(t, a, b)
	for what, act := range map[string]func(d *Daemon) error{
		"checkpoint": func(d *Daemon) error { _, err := d.Checkpoint(t.Context(), "root"); return err },
		"prove":      func(d *Daemon) error { _, err := d.Prove(t.Context(), "root", "one"); return err },
		"plan":       func(d *Daemon) error { _, err := d.Plan(t.Context()); return err },
		"explain":    func(d *Daemon) error { _, err := d.Explain(t.Context(), "one"); return err },
		"discover":   func(d *Daemon) error { _, err := d.Consumers(t.Context(), "one", true); return err },
	} {
		var refused *control.RefusedError
		if err := act(b); !errors.As(err, &refused) || !strings.Contains(err.Error(), "host host-a leads") {
			t.Errorf("%s on a follower: %v", what, err)
		}
	}
}

func TestOnlyTheLeaderExportsTheMetricsOfKeys(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	for _, d := range []*Daemon{a, b} {
		d.showRecords(under)
		var got []string
		families, err := d.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			got = append(got, f.GetName())
		}
		if !slices.Contains(got, "keyd_leader") {
			t.Errorf("%s does not export keyd_leader", d.host)
		}
		if exports := slices.Contains(got, "keyd_proposals"); exports != (d == a) {
			t.Errorf("%s exports keyd_proposals: %v", d.host, exports)
		}
	}
}

func TestAStartOfAnotherHostPutsNothingIntoForce(t *testing.T) {
	a, b, paths := twoHosts(t)
	start := func(d *Daemon, want string) {
		t.Helper()
		if err := d.recordStart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := d.hosts.policyInForce(); got != want {
			t.Errorf("after the start of %s the configuration in force is %q, want %q", d.host, got, want)
		}
	}
	first := a.policyHere()
	start(a, first)
	if a.differs() {
		t.Error("the first host differs from itself")
	}
	edit(t, paths[1], "keys:\n", "keys:\n  two: {vaults: [weu]}\n")
	cfg, err := config.Load(paths[1])
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = cfg
	start(b, first)
	if !b.differs() {
		t.Error("a host with other keys does not differ")
	}
	if err := b.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	a.hosts.tail.next = 1
	a.follow(t.Context())
	if b.differs() || !a.differs() {
		t.Errorf("after keyd reload on host-b: it differs: %v, host-a: %v", b.differs(), a.differs())
	}
}

func TestALastResortAddsDisablesAndAdoptsNothing(t *testing.T) {
	a, b, _ := twoHosts(t)
	under := led(t, a, b)
	rec, err := a.store.Load(under, "one")
	if err != nil {
		t.Fatal(err)
	}
	known, _ := a.policy("one")
	rec.Instance, rec.Vaults = "test", known.Vaults
	if _, err := a.store.Save(under, rec, chain.Entry{Event: chain.RotationRequested, Actor: "root"}); err != nil {
		t.Fatal(err)
	}
	wider := known
	wider.Vaults = append(
		slices.Clone(known.Vaults),
		key.Vault{Name: "neu", URL: "https://neu-keyd-test.vault.azure.net"},
	)
	wider.Retire = key.RetireRule{DisableAfter: time.Hour}
	policies, vaults, err := a.lastResort(under, []key.Policy{wider, {Key: "two"}}, a.config().VaultPolicies())
	if err != nil {
		t.Fatal(err)
	}
	if len(policies) != 1 || len(policies[0].Vaults) != 1 || !policies[0].Retire.Never() || len(vaults) != 0 {
		t.Errorf("it acts on %+v and %+v", policies, vaults)
	}
	inUse := a.config().VaultPolicies()[:1]
	inUse[0].ScheduleText = "@daily"
	v, err := a.store.LoadVault(under, inUse[0].URL)
	if err == nil {
		v.Instance = "test"
		_, err = a.store.SaveVault(under, v, chain.Entry{Event: chain.KEKIntended, Actor: "root"})
	}
	if err == nil {
		_, vaults, err = a.lastResort(under, nil, inUse)
	}
	if err != nil || len(vaults) != 1 || !vaults[0].KeepOld || vaults[0].ScheduleText != "" {
		t.Errorf("of the vault in use it makes %+v, %v; want no new KEK, and no old one disabled", vaults, err)
	}
	a.hosts.nowInForce("another")
	var refused *control.RefusedError
	if err := a.Adopt(under, "root", "one", "reason", "token"); !errors.As(err, &refused) {
		t.Errorf("adopt: %v", err)
	}
	if err := a.ConsentToRetire(under, "root", "one", "reason", "digest"); !errors.As(err, &refused) {
		t.Errorf("consent to a retire rule: %v", err)
	}
}

func TestALeaderThatCannotWorkHandsOver(t *testing.T) {
	a, b, _ := twoHosts(t)
	var ahead atomic.Int64
	for _, d := range []*Daemon{a, b} {
		d.boot = func() time.Duration { return term.Boottime() + time.Duration(ahead.Load()) }
	}
	under := led(t, a, b)
	b.noteHSM(key.HSMInfo{}, nil)
	heard(t, a, b)
	a.judgeHosts()
	if under.Err() != nil {
		t.Fatal("it hands over at once")
	}
	ahead.Store(int64(leader.Patience * a.lease))
	heard(t, a, b)
	a.judgeHosts()
	if under.Err() == nil {
		t.Error("it goes on leading, though the other host could work")
	}
	if a.mayLead(0) || !a.mayLead(leader.Patience*a.lease) || !b.mayLead(0) {
		t.Error("the wrong host takes the lease")
	}
}

// awaitEvents waits until the chain has these events of daemons and leaders, each with its host, in any order.
func awaitEvents(t *testing.T, s Store, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for range 1200 {
		got = nil
		entries, err := s.Recent(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Event == chain.LeaderChanged || e.Event == chain.DaemonStarted || e.Event == chain.DaemonStopped {
				got = append(got, string(e.Event)+" "+e.Fields["host"])
			}
		}
		slices.Sort(got)
		if slices.Equal(slices.Compact(got), want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the chain has %q, want %q", got, want)
}

func awaitReady(t *testing.T, d *Daemon) {
	t.Helper()
	for range 6000 {
		if ready, _ := d.Ready(); ready {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s is not ready", d.host)
}

func TestAnotherHostGoesOnWhenTheLeaderStops(t *testing.T) {
	a, b, _ := twoHosts(t)
	start := func(d *Daemon) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.run(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("%s ended with %v", d.host, err)
			}
		}
	}
	stopA := start(a)
	awaitEvents(t, b.store, "daemon started host-a", "leader changed host-a")
	stopB := start(b)
	awaitEvents(t, b.store, "daemon started host-a", "leader changed host-a", "daemon started host-b")
	awaitReady(t, b)
	stopA()
	awaitEvents(t, b.store, "daemon started host-a", "leader changed host-a", "daemon started host-b",
		"daemon stopped host-a", "leader changed host-b")
	stopB()
	awaitEvents(t, b.store, "daemon started host-a", "leader changed host-a", "daemon started host-b",
		"daemon stopped host-a", "leader changed host-b", "daemon stopped host-b")
}
