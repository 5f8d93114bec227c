package daemon

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

var update = flag.Bool("update", false, "write the golden files again")

const basic = `instance: test
state_dir: %[1]s/state
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
vaults:
  weu: {url: https://weu-keyd-test.vault.azure.net}
keys:
  one: {vaults: [weu], schedule: "0 3 1 * *"}
control: {socket: %[1]s/keyd.sock}
web: {listen: "127.0.0.1:0"}
`

// TestMain sends whatever a client would send to a port on which nobody listens.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		if err := os.Setenv(name, "http://127.0.0.1:9"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// newDaemon builds a daemon from the basic configuration, and does not run it.
func newDaemon(t *testing.T) (d *Daemon, path string) {
	t.Helper()
	return newDaemonOf(t, basic)
}

func newDaemonOf(t testing.TB, text string) (d *Daemon, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "keyd.yaml")
	write(t, path, fmt.Sprintf(text, dir))
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err = build(
		Options{
			ConfigPath: path,
			Version:    "1.2.3",
			Logger:     slog.New(slog.DiscardHandler),
			HSMCommand: []string{"false"},
		},
		cfg,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, path
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path, old, with string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%q is not in the configuration", old)
	}
	write(t, path, strings.ReplaceAll(string(b), old, with))
}

func TestAReloadAppliesKeysAndVaults(t *testing.T) {
	d, path := newDaemon(t)
	edit(t, path, "keys:\n", "  neu: {url: https://neu-keyd-test.vault.azure.net}\nkeys:\n  two: {vaults: [neu]}\n")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	if got := d.loop.Names(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("keys %v", got)
	}
	if d.client("https://neu-keyd-test.vault.azure.net") == nil {
		t.Error("the new vault has no client")
	}
}

func TestABadConfigurationIsNotReloaded(t *testing.T) {
	d, path := newDaemon(t)
	edit(t, path, "0 3 1 * *", "0 0 30 2 *")
	err := d.Reload(t.Context(), "uid 0 (root)")
	var usage *control.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "keyd.yaml:8:") {
		t.Fatalf("%v, want the mistake with its place", err)
	}
	if p, _ := d.loop.Policy("one"); p.ScheduleText != "0 3 1 * *" {
		t.Errorf("the schedule became %q", p.ScheduleText)
	}
	refused := func() bool {
		return slices.ContainsFunc(
			d.Snapshot(status.Selection{}).Problems,
			func(p status.Problem) bool { return p.Runbook == "keydconfigreloadfailed" },
		)
	}
	if !refused() {
		t.Error("that it was refused is no problem")
	}
	edit(t, path, "0 0 30 2 *", "0 3 1 * *")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil || refused() {
		t.Errorf("reloaded after it was fixed: %v; still a problem: %v", err, refused())
	}
}

func TestASettingThatNeedsARestartIsNotReloaded(t *testing.T) {
	for _, change := range [][2]string{
		{"instance: test", "instance: other"},
		{"/state", "/elsewhere"},
		{"token: keyd", "token: another"},
		{"keyd.sock", "other.sock"},
		{"127.0.0.1:0", "127.0.0.1:1"},
	} {
		t.Run(change[1], func(t *testing.T) {
			d, path := newDaemon(t)
			edit(t, path, change[0], change[1])
			var refused *control.RefusedError
			if err := d.Reload(t.Context(), "uid 0 (root)"); !errors.As(err, &refused) {
				t.Fatalf("%v, want it refused", err)
			}
		})
	}
}

func TestTheExplanationShowsEachRuleAndTheStepThatFollows(t *testing.T) {
	d, _ := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	e, err := d.Explain(t.Context(), "one")
	if err != nil || len(e.Rules) != len(plan.Rules()) {
		t.Fatalf("%+v, %v: want each rule", e, err)
	}
	all, err := d.Plan(t.Context())
	if err != nil || len(all) != 1 || all[0].Step != e.Next.Step || all[0].Why != e.Next.Why {
		t.Errorf("the plan says %+v, and the explanation %+v (%v)", all, e.Next, err)
	}
	answered := 0
	for i, r := range e.Rules {
		if r.Rule != plan.Rules()[i].Name || r.Says == "" || r.Asked == (answered > 0) {
			t.Errorf("rule %d: %+v", i+1, r)
		}
		if r.Step != nil {
			answered++
		}
	}
	if answered > 1 {
		t.Errorf("%d rules have answered", answered)
	}
	var usage *control.UsageError
	if _, err := d.Explain(t.Context(), "other"); !errors.As(err, &usage) {
		t.Errorf("a key that is not there: %v", err)
	}
}

func TestAKeyThatLeftTheConfigurationIsRetained(t *testing.T) {
	d, path := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	edit(t, path, "  one: {vaults: [weu], schedule: \"0 3 1 * *\"}", "  two: {vaults: [weu]}")
	if err := d.Reload(t.Context(), "uid 0 (root)"); err != nil {
		t.Fatal(err)
	}
	p, ok := d.loop.Policy("one")
	if !ok || !p.Retained || len(p.Vaults) != 1 {
		t.Fatalf("policy %+v, %v; want it retained with its vault", p, ok)
	}
	if _, err := d.Rotate(t.Context(), "uid 0 (root)", control.RotateOptions{Keys: []string{"one"}}); err == nil {
		t.Error("a retained key was rotated")
	}
}

func TestARequestForOneBadKeyRecordsNone(t *testing.T) {
	d, _ := newDaemon(t)
	_, err := d.Rotate(t.Context(), "uid 0 (root)", control.RotateOptions{Keys: []string{"one", "nothing"}})
	var usage *control.UsageError
	if !errors.As(err, &usage) {
		t.Fatalf("%v, want a usage error", err)
	}
	rec, err := d.store.Load(t.Context(), "one")
	if err != nil || len(rec.Requests) != 0 {
		t.Errorf("requests %v, %v", rec.Requests, err)
	}
}

// oneRecord is a key with one finished generation and one under way.
func oneRecord(now time.Time) record.Record {
	const url = "https://weu-keyd-test.vault.azure.net"
	at := func(state key.PlacementState, seq int) []record.Placement {
		return []record.Placement{
			{
				Seq:        seq,
				Attempt:    key.ID(strings.Repeat("ab", 16)),
				Vault:      url,
				VaultName:  "weu",
				State:      state,
				Version:    strings.Repeat("cd", 16),
				At:         now,
				ImportedAt: now,
				ProvenAt:   now,
			},
		}
	}
	return record.Record{
		Key:        "one",
		Schema:     record.SchemaVersion,
		Instance:   "test",
		Vaults:     []key.Vault{{Name: "weu", URL: url, Kind: key.KeyVault}},
		Operations: []key.Operation{key.WrapKey, key.UnwrapKey},
		Generations: []record.Generation{
			{
				Number:      1,
				ID:          key.ID(strings.Repeat("01", 16)),
				Spec:        key.RSA4096,
				Reserved:    now,
				Fingerprint: "sha256:1",
				Pinned:      now,
				Finished:    now,
				Placements:  at(key.Proven, 1),
			},
			{Number: 2, ID: key.ID(strings.Repeat("02", 16)), Spec: key.RSA4096, Reserved: now},
		},
		Hold: &key.Hold{Code: key.HoldPaused, Reason: "maintenance", Since: now, By: "uid 0 (root)"},
	}
}

func save(t testing.TB, d *Daemon, rec record.Record) {
	t.Helper()
	if _, err := d.store.Save(t.Context(), rec, chain.Entry{Event: "test", Actor: "test"}); err != nil {
		t.Fatal(err)
	}
}

func TestTheSnapshotPutsTroubleFirstInWords(t *testing.T) {
	d, _ := newDaemon(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rec := oneRecord(now)
	rec.Hold.Code = key.HoldRefuted
	save(t, d, rec)
	d.hsmSeen = hsmState{since: now, err: errors.New("the HSM process ended")}
	s := d.Snapshot(status.Selection{})
	if len(s.Problems) != 2 || s.Problems[0].Severity != status.Critical || s.Keys[0].State != status.StateHeld {
		t.Errorf("problems %+v, key state %s", s.Problems, s.Keys[0].State)
	}
	if s.Ready {
		t.Error("ready before the first look")
	}
}

func TestSubscribersGetEventsAndASlowOneHoldsUpNobody(t *testing.T) {
	h := newHub()
	ctx, cancel := context.WithCancel(t.Context())
	events := h.subscribe(ctx)
	for i := range 2 * hubBuffer {
		h.publish(status.Event{Generation: i})
	}
	if e := <-events; e.Generation != 0 {
		t.Errorf("the first event is number %d", e.Generation)
	}
	cancel()
	n := 0
	for range events { // ends because the channel is closed
		n++
	}
	if n != hubBuffer-1 {
		t.Errorf("%d more events, want what the buffer holds", n)
	}
	h.publish(status.Event{}) // to nobody
}

// metricsText is what a scrape shows of a daemon with one held, rotating key.
func metricsText(t *testing.T) (families []*dto.MetricFamily, text []byte) {
	t.Helper()
	// Each call's time ends when nothing goes on any more, however slow the machine is.
	synctest.Test(t, func(t *testing.T) { families, text = scraped(t) })
	return families, text
}

func scraped(t *testing.T) (families []*dto.MetricFamily, text []byte) {
	t.Helper()
	d, _ := newDaemon(t)
	save(t, d, oneRecord(time.Now()))
	control.NewServer(d, func(uint32, []uint32) (bool, bool) { return true, true }, d.log, d.reg)
	d.showRecords(t.Context())
	// One request, one proof and one step, with vaults and an HSM that do not answer.
	short := func(f func(ctx context.Context)) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		f(ctx)
	}
	p, _ := d.loop.Policy("one")
	short(func(ctx context.Context) { _, _ = d.client(p.Vaults[0].URL).Versions(ctx, "one") })
	short(func(ctx context.Context) { _, _ = d.health.Prove(ctx, "one") })
	short(func(ctx context.Context) { _, _ = d.rotator.StepKey(ctx, p) })
	families, err := d.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return families, b.Bytes()
}

func TestTheMetricsMatchTheGoldenFile(t *testing.T) {
	families, _ := metricsText(t)
	var b strings.Builder
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "keyd_") {
			continue
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = true
			}
		}
		names := make([]string, 0, len(labels))
		for l := range labels {
			names = append(names, l)
		}
		slices.Sort(names)
		fmt.Fprintf(
			&b,
			"%s{%s} %s\n  %s\n",
			f.GetName(),
			strings.Join(names, ","),
			strings.ToLower(f.GetType().String()),
			f.GetHelp(),
		)
	}
	const golden = "testdata/metrics.golden"
	if *update {
		write(t, golden, b.String())
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("go test ./internal/daemon -update writes the file anew; -want +got:\n%s", diff)
	}
}

func TestPromtoolFindsNothingWrongWithTheMetrics(t *testing.T) {
	_, text := metricsText(t)
	cmd := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics (apt-get install prometheus): %v\n%s", err, out)
	}
}
