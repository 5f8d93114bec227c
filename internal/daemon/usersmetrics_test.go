package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

var usersNoon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

const usersVault = "https://contoso-weu.vault.azure.net"

// usersOf is the metrics of these keys' consumers at noon.
func usersOf(t *testing.T, keys map[string]*status.Consumers) (reg *prometheus.Registry, m *usersMetrics) {
	t.Helper()
	reg = prometheus.NewPedanticRegistry()
	m = newUsersMetrics(reg, usersNoon.Add(-48*time.Hour), func() map[string]string {
		return map[string]string{usersVault: "contoso-weu"}
	})
	m.clock = func() time.Time { return usersNoon }
	for name, c := range keys {
		m.seen(name, c)
	}
	return reg, m
}

// wellUser is a consumer that uses the newest version.
func wellUser(i int) status.Consumer {
	return status.Consumer{ID: fmt.Sprint("/subscriptions/s/stcmk", i), Service: "storage account", Configured: true,
		Understood: true, Vault: usersVault, Uses: "a1", Generation: 2, Newest: true, Moves: status.MovesItself}
}

func TestConsumersThatAreWellHaveNoSeriesOfTheirOwn(t *testing.T) {
	keys := map[string]*status.Consumers{}
	before, _ := usersOf(t, nil)
	for i := range 1_000 {
		keys[fmt.Sprint("key-", i)] = &status.Consumers{At: usersNoon, List: []status.Consumer{wellUser(i)}}
	}
	after, _ := usersOf(t, keys)
	if b, a := seriesOf(t, before), seriesOf(t, after); b != a || b == 0 {
		t.Errorf("%d series without consumers, %d with a thousand", b, a)
	}
}

func seriesOf(t *testing.T, reg *prometheus.Registry) int {
	t.Helper()
	n, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhatIsWrongWithConsumersIsShown(t *testing.T) {
	late, pinned, expiring, unseen, found, other, strange := wellUser(1), wellUser(2), wellUser(3), wellUser(4), wellUser(5),
		wellUser(6), wellUser(7)
	late.Newest, late.Due = false, usersNoon.Add(-time.Hour)
	pinned.Newest, pinned.Due, pinned.Moves = false, usersNoon.Add(time.Hour), status.MovedByHand // not yet
	expiring.Expires, expiring.Disabled = usersNoon.Add(time.Hour), true
	unseen.Error, unseen.Reason, unseen.UnseenSince = "HTTP 403", key.Forbidden, usersNoon.Add(-2*time.Hour)
	found.Configured = false
	other.OtherKey = true
	strange.Service, strange.Understood, strange.Configured = "microsoft.search/searchservices", false, false
	strange.Error, strange.Reason, strange.UnseenSince = "not understood", key.OtherReason, usersNoon
	reg, m := usersOf(t, map[string]*status.Consumers{"sa-cmk-key": {
		At:   usersNoon.Add(-10 * time.Minute),
		List: []status.Consumer{late, pinned, expiring, unseen, found, other, strange},
		Logs: []status.UsedLog{{Vault: usersVault, Workspace: "0b1f", Until: usersNoon.Add(-time.Minute),
			Retired: &status.RetiredUse{At: usersNoon.Add(-time.Hour)}}},
	}})
	want := fmt.Sprintf(`
# HELP keyd_consumer_bad_version 1 while a consumer uses a version that is disabled, compromised or expires soon; no series otherwise.
# TYPE keyd_consumer_bad_version gauge
keyd_consumer_bad_version{consumer="/subscriptions/s/stcmk3",key="sa-cmk-key",kind="disabled",vault="contoso-weu"} 1
keyd_consumer_bad_version{consumer="/subscriptions/s/stcmk3",key="sa-cmk-key",kind="expiring",vault="contoso-weu"} 1
# HELP keyd_consumer_differences Consumers that the configuration lacks, or that are set to another key than it says; no series for none.
# TYPE keyd_consumer_differences gauge
keyd_consumer_differences{key="sa-cmk-key",kind="not-configured"} 1
keyd_consumer_differences{key="sa-cmk-key",kind="other-key"} 1
# HELP keyd_consumer_late_since_timestamp_seconds When a consumer should have moved to the newest version; no series while it uses that one or has time.
# TYPE keyd_consumer_late_since_timestamp_seconds gauge
keyd_consumer_late_since_timestamp_seconds{consumer="/subscriptions/s/stcmk1",key="sa-cmk-key",moves="itself",vault="contoso-weu"} %d
# HELP keyd_consumer_log_seen_timestamp_seconds Until when keyd has seen a vault's whole audit log; 0 for not at all.
# TYPE keyd_consumer_log_seen_timestamp_seconds gauge
keyd_consumer_log_seen_timestamp_seconds{vault="contoso-weu",workspace="0b1f"} %d
# HELP keyd_consumer_look_timestamp_seconds Of the keys whose consumers keyd looks at: the last look, of the key for which that is longest ago, or keyd's start; 0 while there are none.
# TYPE keyd_consumer_look_timestamp_seconds gauge
keyd_consumer_look_timestamp_seconds %d
# HELP keyd_consumer_retired_use_timestamp_seconds The last use of a version after it was disabled, by the vault's audit log; no series for none.
# TYPE keyd_consumer_retired_use_timestamp_seconds gauge
keyd_consumer_retired_use_timestamp_seconds{key="sa-cmk-key",vault="contoso-weu"} %d
# HELP keyd_consumer_unseen_since_timestamp_seconds Since when keyd does not see a consumer or all that a search looks for, of the one for which that is longest; no series while it sees all.
# TYPE keyd_consumer_unseen_since_timestamp_seconds gauge
keyd_consumer_unseen_since_timestamp_seconds{reason="Forbidden"} %d
`, usersNoon.Add(-time.Hour).Unix(), usersNoon.Add(-time.Minute).Unix(), usersNoon.Add(-10*time.Minute).Unix(),
		usersNoon.Add(-time.Hour).Unix(), usersNoon.Add(-2*time.Hour).Unix())
	names := []string{
		"keyd_consumer_bad_version", "keyd_consumer_differences",
		"keyd_consumer_late_since_timestamp_seconds", "keyd_consumer_log_seen_timestamp_seconds",
		"keyd_consumer_look_timestamp_seconds", "keyd_consumer_retired_use_timestamp_seconds",
		"keyd_consumer_unseen_since_timestamp_seconds",
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	m.seen("sa-cmk-key", nil)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(""), slices.DeleteFunc(names, func(n string) bool {
		return n == "keyd_consumer_look_timestamp_seconds"
	})...); err != nil {
		t.Errorf("a key without consumers: %v", err)
	}
}
