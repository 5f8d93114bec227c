package vault

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/recent"
)

// Metrics counts requests to vaults. One Metrics serves all Clients.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	throttled *prometheus.CounterVec
	clockSkew *prometheus.GaugeVec
	ends      prometheus.Gauge
	unusable  prometheus.Gauge
	noToken   *prometheus.GaugeVec

	mu   sync.Mutex
	last map[string]lately // by vault
}

// lately counts the requests to one vault in the last RecentSpan.
type lately struct{ requests, throttled *recent.Counter }

// RecentSpan is how far back Metrics.Recent counts.
const RecentSpan = 15 * time.Minute

// NewMetrics makes the metrics and registers them with reg, unless it is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		last: map[string]lately{},
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_vault_requests_total",
			Help: "HTTP requests with retries, by operation and answer (2xx, 3xx, 4xx, 5xx, error).",
		}, []string{"vault", "operation", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "keyd_vault_request_duration_seconds",
			Help:    "Time from sending a request to a vault to its whole answer.",
			Buckets: []float64{0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}, []string{"vault", "operation"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyd_vault_throttled_total",
			Help: "Answers 429 (too many requests) from a vault.",
		}, []string{"vault"}),
		clockSkew: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keyd_vault_clock_skew_seconds",
			Help: "The vault's clock minus the local clock, by the last answer's Date header.",
		}, []string{"vault"}),
		ends: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_client_certificate_expiry_timestamp_seconds",
			Help: "When the client certificate by which keyd signs in ends; 0 with another kind of credential.",
		}),
		unusable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyd_credential_file_unusable",
			Help: "1 while keyd cannot use the credential's current file; it then continues with what it read before.",
		}),
		noToken: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "keyd_sign_in_failing_since_timestamp_seconds",
			Help: "Since when Azure has given keyd no token for its vaults or its consumers; 0 while it does.",
		}, []string{"audience"}),
	}
	m.noTokens(nil)
	if reg != nil {
		reg.MustRegister(m.requests, m.duration, m.throttled, m.clockSkew, m.ends, m.unusable, m.noToken)
	}
	return m
}

// Credential shows the state of the credential's file and of the sign-ins.
func (m *Metrics) Credential(c CredentialState) {
	m.ends.Set(0)
	if !c.Ends.IsZero() {
		m.ends.Set(float64(c.Ends.Unix()))
	}
	m.unusable.Set(0)
	if c.Err != nil {
		m.unusable.Set(1)
	}
	m.noTokens(c.NoTokens)
}

// noTokens shows the audiences without a token, of which the longest comes first.
func (m *Metrics) noTokens(lacking []NoToken) {
	for audience, ofVaults := range map[string]bool{"vaults": true, "consumers": false} {
		since := 0.0
		if i := slices.IndexFunc(lacking, func(n NoToken) bool { return n.OfVaults == ofVaults }); i >= 0 {
			since = float64(lacking[i].Since.Unix())
		}
		m.noToken.WithLabelValues(audience).Set(since)
	}
}

// Forget drops the series of a vault that is no longer in the configuration.
func (m *Metrics) Forget(vault string) {
	labels := prometheus.Labels{"vault": vault}
	m.requests.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.throttled.DeletePartialMatch(labels)
	m.clockSkew.DeletePartialMatch(labels)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.last, vault)
}

// Recent returns how many requests keyd sent to a vault within the RecentSpan that ends now, and how many of them the
// vault answered with 429.
func (m *Metrics) Recent(vault string, now time.Time) (requests, throttled int) {
	l := m.lately(vault)
	return l.requests.Sum(now), l.throttled.Sum(now)
}

func (m *Metrics) lately(vault string) lately {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.last[vault]
	if !ok {
		l = lately{recent.New(RecentSpan), recent.New(RecentSpan)}
		m.last[vault] = l
	}
	return l
}

// observe counts one request. Status 0 means that no answer arrived.
func (m *Metrics) observe(vault, operation string, status int, begun, ended time.Time) {
	code := "error"
	if status >= 200 && status < 600 {
		code = strconv.Itoa(status/100) + "xx"
	}
	m.requests.WithLabelValues(vault, operation, code).Inc()
	m.duration.WithLabelValues(vault, operation).Observe(ended.Sub(begun).Seconds())
	l := m.lately(vault)
	l.requests.Add(ended)
	if status == http.StatusTooManyRequests {
		m.throttled.WithLabelValues(vault).Inc()
		l.throttled.Add(ended)
	}
}
