package observe

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

func TestAnUnknownPolicyStaysUnknownWhileTheVaultDoesNotAnswer(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	look := func(seen record.VaultSeen) {
		m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{p.Vaults[0].URL: seen}})
	}
	const name, is = "keyd_rotation_policy_unreadable", `keyd_rotation_policy_unreadable{key="k",vault="weu"} `
	look(record.VaultSeen{PolicyErr: errors.New("403")})
	wantSeries(t, reg, name, is+"1")
	look(record.VaultSeen{Err: errors.New("no answer")})
	wantSeries(t, reg, name, is+"1")
	look(record.VaultSeen{})
	wantSeries(t, reg, name)
	unreadable := record.VaultSeen{PolicyErr: errors.New("403")}
	look(unreadable)
	m.ForgetVault("weu")
	wantSeries(t, reg, name)
	look(unreadable)
	m.Forget("k")
	wantSeries(t, reg, name)
	look(unreadable)
	p.Vaults = []key.Vault{{Name: "mhsm", URL: hsmURL}}
	look(unreadable)
	wantSeries(t, reg, name, `keyd_rotation_policy_unreadable{key="k",vault="mhsm"} 1`)
}

func TestAKeyWhoseVaultDoesNotAnswerIsNamed(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	look := func(seen record.VaultSeen) {
		m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{p.Vaults[0].URL: seen}})
	}
	const name = "keyd_key_vault_unreachable"
	look(record.VaultSeen{})
	wantSeries(t, reg, name)
	look(record.VaultSeen{Err: errors.New("no answer")})
	wantSeries(t, reg, name, name+`{key="k",vault="weu"} 1`)
	look(record.VaultSeen{Err: errors.New("not configured"), Unconfigured: true})
	wantSeries(t, reg, name)
	look(record.VaultSeen{Err: errors.New("no answer")})
	look(record.VaultSeen{})
	wantSeries(t, reg, name)
}

func TestDriftStaysUntilKeydSeesItFixed(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	deleted := map[string]record.VaultSeen{weuURL: {Deleted: true}}
	down := map[string]record.VaultSeen{weuURL: {Err: errors.New("no answer")}}
	drift := `keyd_drift{key="k",kind="key-deleted",vault="weu"} 1`
	m.observed(p, record.Record{}, &record.Observation{Vaults: deleted})
	wantSeries(t, reg, "keyd_drift", drift)
	m.observed(p, record.Record{}, &record.Observation{Vaults: down})
	wantSeries(t, reg, "keyd_drift", drift)
	m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{weuURL: {}}})
	wantSeries(t, reg, "keyd_drift")

	m.observed(p, record.Record{}, &record.Observation{Vaults: deleted})
	p.Vaults[0] = key.Vault{Name: "mhsm", URL: hsmURL}
	m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{hsmURL: {}}})
	wantSeries(t, reg, "keyd_drift")
}

func TestWhatWasForeignStaysSoWhileTheHSMCannotBeAsked(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	seen := map[string]record.VaultSeen{weuURL: {Versions: []key.Version{{ID: "theirs", Enabled: true}}}}
	away := record.HSMSeen{Err: errors.New("no answer")}
	m.observed(p, record.Record{}, &record.Observation{HSM: away, Vaults: seen})
	wantSeries(t, reg, "keyd_drift") // it may be keyd's own
	const foreign = `keyd_drift{key="k",kind="foreign-version",vault="weu"} 1`
	m.observed(p, record.Record{}, &record.Observation{Vaults: seen})
	wantSeries(t, reg, "keyd_drift", foreign)
	m.observed(p, record.Record{}, &record.Observation{HSM: away, Vaults: seen})
	wantSeries(t, reg, "keyd_drift", foreign)
	m.observed(p, record.Record{}, &record.Observation{HSM: away, Vaults: map[string]record.VaultSeen{weuURL: {}}})
	wantSeries(t, reg, "keyd_drift") // the version is gone
}

func TestWhatConcernsAVaultIsOneSeries(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	seen := map[string]record.VaultSeen{weuURL: {Newest: "v", Versions: []key.Version{{ID: "v", Enabled: true,
		Recovery: "Recoverable+Purgeable"}}}}
	rec := record.Record{Known: map[string][]string{weuURL: {"v"}}}
	for _, name := range []string{"k", "l", "m"} {
		p.Key = name
		m.observed(p, rec, &record.Observation{Vaults: seen})
	}
	wantSeries(t, reg, "keyd_drift", `keyd_drift{key="",kind="no-purge-protection",vault="weu"} 1`)
}

func TestWhenAVersionExpiresIsShownFromThirtyDaysBefore(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	now := time.Unix(1_000_000_000, 0)
	m.clock = func() time.Time { return now }
	look := func(expires time.Time) {
		seen := record.VaultSeen{Newest: "v", Versions: []key.Version{{ID: "v", Enabled: true, Expires: expires}}}
		m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{weuURL: seen}})
	}
	look(time.Time{})
	wantSeries(t, reg, "keyd_version_expiry_timestamp_seconds")
	expires := now.Add(31 * 24 * time.Hour)
	look(expires)
	wantSeries(t, reg, "keyd_version_expiry_timestamp_seconds")
	now = now.Add(25 * time.Hour)
	wantSeries(t, reg, "keyd_version_expiry_timestamp_seconds",
		`keyd_version_expiry_timestamp_seconds{key="k",vault="weu"} 1.0026784e+09`)
	look(now.Add(90 * 24 * time.Hour))
	wantSeries(t, reg, "keyd_version_expiry_timestamp_seconds")
}

// The last complete listing of a key may be hours old while sweeps confirm it.
func TestAVaultIsSeenWhenItLastAnswered(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	m.clock = func() time.Time { return time.Unix(9000, 0) }
	look := func(begun, clock int64, err error) {
		seen := record.VaultSeen{Begun: time.Unix(begun, 0), ClockAt: time.Unix(clock, 0), Err: err}
		m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{weuURL: seen}})
	}
	const up, seen = `keyd_vault_up{vault="weu"} `, `keyd_vault_last_seen_timestamp_seconds{vault="weu"} `
	look(1000, 7000, nil)
	wantSeries(t, reg, "keyd_vault_last_seen_timestamp_seconds", seen+"7000")
	look(8000, 0, errors.New("no answer"))
	look(7500, 7500, nil) // another key's look that is older
	wantSeries(t, reg, "keyd_vault_up", up+"0")
	wantSeries(t, reg, "keyd_vault_last_seen_timestamp_seconds", seen+"7000")
	look(2000, 8500, nil)
	wantSeries(t, reg, "keyd_vault_up", up+"1")
	wantSeries(t, reg, "keyd_vault_last_seen_timestamp_seconds", seen+"8500")
}

func TestAVaultIsShownAgainAfterTheClockWasPutBack(t *testing.T) {
	m, reg, p := measured()
	p.Vaults = p.Vaults[:1]
	look := func(at int64, err error) {
		m.clock = func() time.Time { return time.Unix(at, 0) }
		seen := record.VaultSeen{Begun: time.Unix(at, 0), Err: err}
		m.observed(p, record.Record{}, &record.Observation{Vaults: map[string]record.VaultSeen{weuURL: seen}})
	}
	look(9000, nil)
	look(1000, errors.New("no answer"))
	wantSeries(t, reg, "keyd_vault_up", `keyd_vault_up{vault="weu"} 0`)
}
