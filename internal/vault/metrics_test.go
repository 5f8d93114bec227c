package vault_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestEveryRequestIsCounted(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	reg := prometheus.NewPedanticRegistry()
	m := vault.NewMetrics(reg)
	c, err := vault.New(
		vault.Config{Vault: b.vault, KEKName: kekName}, b.cred, vault.HTTPClient(b.Transport()), m, nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	b.Fail(emulator.Rule{Operation: "versions", Count: 1, Status: http.StatusTooManyRequests})
	if _, err := c.Versions(t.Context(), keyName); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Newest(t.Context(), keyName); !vault.IsNotFound(err) {
		t.Fatal(err)
	}
	want := `
# HELP keyd_vault_requests_total HTTP requests with retries, by operation and answer (2xx, 3xx, 4xx, 5xx, error).
# TYPE keyd_vault_requests_total counter
keyd_vault_requests_total{code="2xx",operation="list_versions",vault="contoso-weu"} 1
keyd_vault_requests_total{code="4xx",operation="get_newest",vault="contoso-weu"} 1
keyd_vault_requests_total{code="4xx",operation="list_versions",vault="contoso-weu"} 1
# HELP keyd_vault_throttled_total Answers 429 (too many requests) from a vault.
# TYPE keyd_vault_throttled_total counter
keyd_vault_throttled_total{vault="contoso-weu"} 1
`
	if err := testutil.GatherAndCompare(
		reg, strings.NewReader(want), "keyd_vault_requests_total", "keyd_vault_throttled_total",
	); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"keyd_vault_request_duration_seconds", "keyd_vault_clock_skew_seconds"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n == 0 {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
	if requests, throttled := m.Recent(b.vault.Name, time.Now()); requests != 3 || throttled != 1 {
		t.Errorf("of late %d requests, %d throttled, want 3 and 1", requests, throttled)
	}
	if requests, throttled := m.Recent(b.vault.Name, time.Now().Add(vault.RecentSpan)); requests != 0 ||
		throttled != 0 {
		t.Errorf("a span later %d requests, %d throttled", requests, throttled)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}
