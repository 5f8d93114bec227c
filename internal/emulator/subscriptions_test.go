package emulator_test

import (
	"encoding/json"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
)

// The az command line lists the subscriptions when it signs in, and uses the tenant of one.
func TestResourceManagerHasOneSubscription(t *testing.T) {
	e := start(t, emulator.Options{})
	header := bearer(token(t, managedIdentity(t, e), "https://management.azure.com"))
	const list = "https://management.azure.com/subscriptions?api-version=2019-11-01"
	res, body := do(t, e, "GET", list, header, "")
	var got struct {
		Value []struct{ ID, SubscriptionID, TenantID, DisplayName, State string }
	}
	must(t, json.Unmarshal([]byte(body), &got))
	if res.StatusCode != 200 || len(got.Value) != 1 || got.Value[0].TenantID != emulator.DefaultTenantID ||
		got.Value[0].ID != "/subscriptions/"+got.Value[0].SubscriptionID || got.Value[0].State != "Enabled" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, _ := do(t, e, "PUT", list, header, "{}"); res.StatusCode != 405 {
		t.Errorf("PUT: %d", res.StatusCode)
	}
	if res, _ := do(t, e, "GET", list, nil, ""); res.StatusCode != 401 {
		t.Errorf("without a token: %d", res.StatusCode)
	}
}
