package consumer_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/key"
)

func TestThrottlingIsHonouredAndTheCallRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(map[string]string{cosmos: account(cosmos, newID)})
		tries := 0
		c.hook = func(r *http.Request) *http.Response {
			if tries++; tries > 2 {
				return nil
			}
			status := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[tries-1]
			resp := answer(r, status, `{"error":{"code":"TooManyRequests","message":"slow down"}}`)
			resp.Header.Set("Retry-After", "17")
			return resp
		}
		begun := time.Now()
		u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos))
		if waited := time.Since(begun); u.Consumers[0].Err != nil || waited != 34*time.Second {
			t.Errorf("%v after %s", u.Consumers[0].Err, waited)
		}
	})
}

func TestALongThrottlingIsAnErrorNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(nil)
		c.hook = func(r *http.Request) *http.Response {
			resp := answer(
				r,
				http.StatusTooManyRequests,
				`{"error":{"code":"TooManyRequests","message":"slow down"}}`,
			)
			resp.Header.Set("Retry-After", "3600")
			return resp
		}
		u := watcher(t, c, consumer.Config{}).Look(t.Context(), cmk(cosmos))
		wantErr(t, u.Consumers[0].Err, "HTTP 429 TooManyRequests", "keyd looks again by itself")
		if calls := c.sent(); len(calls) != 1 {
			t.Errorf("keyd sent %q", calls)
		}
	})
}

// All looks together keep to one budget, whatever they are for.
func TestCallsKeepToTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := accounts(60)
		c := newCloud(nil)
		for _, id := range ids {
			c.set(id, account(id, newID))
		}
		client, err := consumer.NewClient(consumer.ClientConfig{Credential: fixedToken{}, Transport: c,
			Budget: consumer.NewBudget(consumer.CallsPerSecond, consumer.CallsAtOnce)})
		if err != nil {
			t.Fatal(err)
		}
		w := watcher(t, c, consumer.Config{})
		w.Use(client, nil)
		begun := time.Now()
		if u := w.Look(t.Context(), cmk(ids...)); len(u.Consumers) != 60 || u.Consumers[59].Err != nil {
			t.Errorf("%+v", u)
		}
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("60 calls took %s", took)
		}
	})
}

func TestEachCloudHasItsResourceManager(t *testing.T) {
	for cloudName, host := range map[string]string{
		"": "management.azure.com", "public": "management.azure.com", "china": "management.chinacloudapi.cn",
		"usgovernment": "management.usgovcloudapi.net",
	} {
		c := newCloud(map[string]string{cosmos: account(cosmos, newID)})
		var asked, version string
		c.hook = func(r *http.Request) *http.Response {
			asked, version = r.URL.Host, r.URL.Query().Get("api-version")
			return nil
		}
		client, err := consumer.NewClient(
			consumer.ClientConfig{Cloud: cloudName, Credential: fixedToken{}, Transport: c,
				Budget: consumer.NewBudget(1e6, 1e6)},
		)
		if err != nil {
			t.Fatal(err)
		}
		w := watcher(t, c, consumer.Config{})
		w.Use(client, nil)
		w.Look(t.Context(), cmk(cosmos))
		if asked != host || version != "2025-10-15" {
			t.Errorf("cloud %q: %s, api-version %s", cloudName, asked, version)
		}
	}
	if _, err := consumer.NewClient(consumer.ClientConfig{Cloud: "mars"}); err == nil {
		t.Error("an unknown cloud has a client")
	}
}

func TestCallsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := newCloud(samples()["storage account"].answers)
	client, err := consumer.NewClient(consumer.ClientConfig{Credential: fixedToken{}, Transport: c,
		Budget: consumer.NewBudget(1e6, 1e6), Metrics: consumer.NewMetrics(reg)})
	if err != nil {
		t.Fatal(err)
	}
	w := watcher(t, c, consumer.Config{Policies: func() []key.Policy { return nil }})
	w.Use(client, nil)
	w.Look(t.Context(), cmk(storage, cosmos))
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue()
		}
	}
	if diff := cmp.Diff(map[string]float64{
		"keyd_consumer_requests_total 2xx get": 1, "keyd_consumer_requests_total 2xx list_children": 1,
		"keyd_consumer_requests_total 4xx get": 1, "keyd_consumer_throttled_total": 0,
	}, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
