package rotate

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	weuURL = "https://contoso-weu.vault.azure.net"
	hsmURL = "https://contoso.managedhsm.azure.net"
)

// measured makes a key in two vaults, and metrics that show nothing yet.
func measured() (*Metrics, *prometheus.Registry, key.Policy) {
	reg := prometheus.NewRegistry()
	vaults := []key.Vault{{Name: "weu", URL: weuURL}, {Name: "mhsm", URL: hsmURL}}
	return NewMetrics(reg), reg, key.Policy{Key: "k", Vaults: vaults}
}

// wantSeries requires the series of one metric, sorted.
func wantSeries(t *testing.T, reg *prometheus.Registry, name string, want ...string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFailedStepsAreCountedByTheirVaultUntilOneSucceeds(t *testing.T) {
	m, reg, p := measured()
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_step_failures")
	for range 2 {
		m.stepped(p, plan.Step{Kind: plan.Import, Vault: hsmURL}, &record.Record{}, 0, errors.New("refused"))
	}
	m.stepped(p, plan.Step{Kind: plan.Reserve}, &record.Record{}, 0, errors.New("no space"))
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_step_failures", `keyd_step_failures{key="k",vault=""} 1`,
		`keyd_step_failures{key="k",vault="mhsm"} 2`)
	m.stepped(p, plan.Step{Kind: plan.Import, Vault: weuURL}, &record.Record{}, 0, nil)
	wantSeries(t, reg, "keyd_step_failures")
}

func TestAConsumerThatKeydCouldNotMoveIsShown(t *testing.T) {
	m, reg, p := measured()
	rec := record.Record{Repointing: &record.Repointing{Consumer: "/a/ai-1"}}
	m.Recorded(time.Now(), p, &rec)
	wantSeries(t, reg, "keyd_key_repoint_failed")
	rec.Repointing.Failed = "refused"
	m.Recorded(time.Now(), p, &rec)
	wantSeries(t, reg, "keyd_key_repoint_failed", `keyd_key_repoint_failed{consumer="ai-1",key="k"} 1`)
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_key_repoint_failed")
}

func TestSparesThatAreNotReadyAreMissing(t *testing.T) {
	m, reg, p := measured()
	p.Spec, p.Spares = key.RSA2048, 2
	ready := record.Generation{Number: 2, Spec: key.RSA2048, Fingerprint: "sha256:02"}
	making := record.Generation{Number: 3, Spec: key.RSA2048}
	m.Recorded(time.Now(), p, &record.Record{Spares: []record.Generation{ready, making}})
	wantSeries(t, reg, "keyd_key_spares_missing", `keyd_key_spares_missing{key="k"} 1`)
	p.Spares = 0
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_key_spares_missing")
}

func TestExposedVersionsAreCountedByTheirVaultUntilTheyAreDisabled(t *testing.T) {
	m, reg, p := measured()
	in := func(url, version string) record.Placement {
		return record.Placement{Vault: url, State: key.Superseded, Version: version}
	}
	rec := &record.Record{Generations: []record.Generation{{Number: 1, Compromised: time.Now(),
		Placements: []record.Placement{in(weuURL, "v1"), in(hsmURL, "v2"), in(hsmURL, "v3")}}}}
	m.Recorded(time.Now(), p, rec)
	m.Looked(p, rec, nil)
	wantSeries(t, reg, "keyd_key_exposed_versions", `keyd_key_exposed_versions{key="k",vault="mhsm"} 2`,
		`keyd_key_exposed_versions{key="k",vault="weu"} 1`)
	disabled := record.VaultSeen{Versions: []key.Version{{ID: "v1"}, {ID: "v2"}, {ID: "v3"}}}
	m.Looked(p, rec, &record.Observation{Vaults: map[string]record.VaultSeen{weuURL: disabled, hsmURL: disabled}})
	wantSeries(t, reg, "keyd_key_exposed_versions")
}

func TestAHoldNamesTheVaultThatGaveCause(t *testing.T) {
	m, reg, p := measured()
	m.Recorded(time.Now(), p, &record.Record{Hold: &key.Hold{Code: key.HoldForeign, Vault: weuURL}})
	wantSeries(t, reg, "keyd_key_held", `keyd_key_held{code="foreign-version",key="k",vault="weu"} 1`)
	m.Recorded(time.Now(), p, &record.Record{Hold: &key.Hold{Code: key.HoldPaused}})
	wantSeries(t, reg, "keyd_key_held", `keyd_key_held{code="paused",key="k",vault=""} 1`)
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_key_held")
}

func TestAPartialKeyNamesTheVaultsThatLackIt(t *testing.T) {
	m, reg, p := measured()
	in := func(urls ...string) *record.Record {
		g := record.Generation{Number: 1, Fingerprint: "sha256:aa"}
		for _, url := range urls {
			g.Placements = append(g.Placements, record.Placement{Vault: url, State: key.Proven})
		}
		return &record.Record{Generations: []record.Generation{g}}
	}
	for _, c := range []struct {
		rec  *record.Record
		want []string
	}{{in(), nil}, {in(weuURL), []string{`keyd_key_partial{key="k",vault="mhsm"} 1`}}, {in(weuURL, hsmURL), nil}} {
		m.Recorded(time.Now(), p, c.rec)
		wantSeries(t, reg, "keyd_key_partial", c.want...)
	}
}

func TestTheMetricShowsTheOldestRequest(t *testing.T) {
	m, reg, p := measured()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	requests := []key.Request{{At: at(300)}, {At: at(200)}, {At: at(400), Compromise: true}}
	m.Recorded(time.Now(), p, &record.Record{Requests: requests})
	wantSeries(t, reg, "keyd_rotation_requested_timestamp_seconds",
		`keyd_rotation_requested_timestamp_seconds{compromise="no",key="k"} 200`,
		`keyd_rotation_requested_timestamp_seconds{compromise="yes",key="k"} 400`)
	m.Recorded(time.Now(), p, &record.Record{})
	wantSeries(t, reg, "keyd_rotation_requested_timestamp_seconds")
}

func TestAQuietKeyHasThreeSeriesAndAForgottenKeyNone(t *testing.T) {
	m, reg, p := measured()
	at := time.Unix(50, 0)
	rec := &record.Record{Key: "k", Generations: []record.Generation{{
		Number: 1, Fingerprint: "sha256:aa", Reserved: at, Pinned: at, Finished: at,
	}}}
	for i, v := range p.Vaults {
		rec.Generations[0].Placements = append(rec.Generations[0].Placements,
			record.Placement{Seq: i, Vault: v.URL, VaultName: v.Name, State: key.Proven})
	}
	m.Recorded(time.Now(), p, rec)
	other := p
	other.Key = "l"
	m.Recorded(time.Now(), other, rec)
	if n := len(seriesOf(t, reg, "k")); n != 3 {
		t.Errorf("a quiet key has %d series, want 3: %v", n, seriesOf(t, reg, "k"))
	}
	wantSeries(t, reg, "keyd_placements", `keyd_placements{state="active",vault="mhsm"} 2`,
		`keyd_placements{state="active",vault="weu"} 2`)
	m.stepped(p, plan.Step{Kind: plan.Import, Vault: hsmURL}, rec, 0, errors.New("refused"))
	m.Forget("k")
	if found := seriesOf(t, reg, "k"); len(found) != 0 {
		t.Errorf("a key that keyd no longer manages has the series %v", found)
	}
}

// seriesOf lists the metrics that have a series of this key, once for each series.
func seriesOf(t *testing.T, reg *prometheus.Registry, name string) (found []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "key" && l.GetValue() == name {
					found = append(found, f.GetName())
				}
			}
		}
	}
	return found
}

// KeydRotationFailing asks how long a rotation has been under way, and KeydKeyPartial which vault lacks the
// generation. Here the pair was lost and adopted after one vault was done: nothing is under way, and the other vault
// still lacks the generation.
func TestAfterALostPairWasAdoptedNoRotationIsUnderWayAndTheKeyIsPartial(t *testing.T) {
	m, reg, p := measured()
	rec := &record.Record{Key: "k", Generations: []record.Generation{{
		Number: 1, Fingerprint: "sha256:aa", Pinned: time.Unix(50, 0), Reserved: time.Unix(40, 0),
		Placements: []record.Placement{{Seq: 1, Vault: weuURL, State: key.Proven}},
	}}}
	m.Recorded(time.Now(), p, rec)
	wantSeries(t, reg, "keyd_rotation_started_timestamp_seconds", `keyd_rotation_started_timestamp_seconds{key="k"} 40`)
	rec.LosePair(time.Unix(100, 0), 1)
	m.Recorded(time.Now(), p, rec)
	wantSeries(t, reg, "keyd_rotation_started_timestamp_seconds")
	wantSeries(t, reg, "keyd_key_partial", `keyd_key_partial{key="k",vault="mhsm"} 1`)
	seen := &record.Observation{At: time.Now(), Vaults: map[string]record.VaultSeen{}}
	if s := plan.Next(plan.Input{Now: time.Now(), Policy: p, Record: rec, Seen: seen}); s.Kind != plan.Idle {
		t.Errorf("the plan says %s (%s)", s.Kind, s.Why)
	}
}
