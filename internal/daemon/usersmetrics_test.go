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
	late, pinned, expiring, unseen, found, other, strange := wellUser(
		1,
	), wellUser(
		2,
	), wellUser(
		3,
	), wellUser(
		4,
	), wellUser(
		5,
	),
		wellUser(
			6,
		), wellUser(
			7,
		)
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
	names := []string{
		"keyd_consumer_bad_version", "keyd_consumer_differences",
		"keyd_consumer_late_since_timestamp_seconds", "keyd_consumer_log_seen_timestamp_seconds",
		"keyd_consumer_look_timestamp_seconds", "keyd_consumer_retired_use_timestamp_seconds",
		"keyd_consumer_unseen_since_timestamp_seconds",
	}
	want := read(t, "testdata/consumers.metrics")
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
