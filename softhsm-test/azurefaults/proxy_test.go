package azurefaults_test

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// newProxy starts a proxy between keyd and the emulator's proxy, which can inject
// faults into connections.
func newProxy(t *testing.T, upstream string) *toxiproxy.Proxy {
	t.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", u.Host)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

// spoil puts exactly these toxics in force, as toxiproxy's API does.
func (w *world) spoil(toxics []string) {
	w.t.Helper()
	if w.proxy == nil {
		return
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	w.proxy.Toxics.ResetToxics(ctx)
	for _, text := range toxics {
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			w.t.Fatal(err)
		}
		figures.faults.Add(1)
	}
}

func toxic(kind, stream string, toxicity float64, attributes string) string {
	return fmt.Sprintf(`{"type":%q,"stream":%q,"toxicity":%g,"attributes":{%s}}`, kind, stream, toxicity, attributes)
}

// saysLate is keyd's log line for a connection that does not answer.
var saysLate = regexp.MustCompile(`deadline exceeded|[Tt]imeout`)

// networks are the faults of the network between keyd and Azure.
func networks() []kind {
	const minute = time.Minute
	return []kind{
		{name: "connections reset on the way there", set: settings{proxy: true}, on: 3 * minute, off: 2 * minute,
			toxics: []string{toxic("reset_peer", "upstream", 0.4, `"timeout":0`)}, breaks: true},
		{name: "connections reset on the way back", sample: true, set: settings{proxy: true}, on: 3 * minute,
			off:    2 * minute,
			toxics: []string{toxic("reset_peer", "downstream", 0.4, `"timeout":0`)}, breaks: true},
		{name: "half-open on the way there", set: settings{proxy: true}, on: 3 * minute, off: 7 * minute,
			toxics: []string{toxic("timeout", "upstream", 1, `"timeout":0`)}, says: saysLate},
		{name: "half-open on the way back", set: settings{proxy: true}, on: 3 * minute, off: 7 * minute,
			toxics: []string{toxic("timeout", "downstream", 1, `"timeout":0`)}, says: saysLate},
		{name: "latency", set: settings{proxy: true},
			toxics: []string{toxic("latency", "downstream", 1, `"latency":15,"jitter":10`)}},
		{name: "answers in slices", set: settings{proxy: true},
			toxics: []string{toxic("slicer", "downstream", 1, `"average_size":256,"size_variation":128,"delay":50`)}},
		{name: "answers cut off", set: settings{proxy: true}, on: 3 * minute, off: 2 * minute,
			toxics: []string{toxic("limit_data", "downstream", 0.5, `"bytes":6000`)}, breaks: true},
	}
}
