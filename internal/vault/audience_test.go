package vault_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/vault"
)

// signIns is a credential whose clock the test sets, and what it shows.
type signIns struct {
	*bench
	cred *vault.Credential
	reg  *prometheus.Registry
	now  time.Time
}

func newSignIns(t *testing.T) *signIns {
	t.Helper()
	cfg := application(clientCertificate(t)) // the SDK keeps tokens of managed identities for the whole process
	s := &signIns{reg: prometheus.NewRegistry(), now: time.Now().Truncate(time.Second)}
	s.bench = newBench(t, profiles()[0],
		emulator.Options{Certificates: []emulator.ClientCertificate{registered(t, cfg)}})
	cfg.Clock, cfg.Metrics = func() time.Time { return s.now }, vault.NewMetrics(s.reg)
	var err error
	if s.cred, err = vault.NewCredential(cfg, vault.HTTPClient(s.Transport())); err != nil {
		t.Fatal(err)
	}
	s.bench.cred = s.cred
	return s
}

// consumer signs in as the clients of consumers do.
func (s *signIns) consumer(ctx context.Context) error {
	_, err := vault.Tagged(s.cred).GetToken(noRetries(ctx),
		policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	return err
}

// shown requires what the metric says for vaults and for consumers, and which audiences lack a token.
func (s *signIns) shown(t *testing.T, when string, vaults, consumers float64, lacking ...string) {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "keyd_sign_in_failing_since_timestamp_seconds" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if len(got) != 2 || got["vaults"] != vaults || got["consumers"] != consumers {
		t.Errorf("%s: the metric has %v; want %v for vaults and %v for consumers", when, got, vaults, consumers)
	}
	var names []string
	for _, n := range s.cred.Reread().NoTokens {
		names = append(names, n.Audience)
		if !strings.HasPrefix(n.Err.Error(), "no token: ") || vault.Advice(n.Err) == "" {
			t.Errorf("%s: the sign-in for %s failed by %v, without advice", when, n.Audience, n.Err)
		}
	}
	if !slices.Equal(names, lacking) {
		t.Errorf("%s: %q lack a token, want %q", when, names, lacking)
	}
}

func TestACredentialKnowsSinceWhenAndForWhatItGetsNoToken(t *testing.T) {
	t.Parallel()
	s := newSignIns(t)
	s.shown(t, "at the start", 0, 0)
	refused := s.Fail(emulator.Rule{Operation: "token", Status: http.StatusBadRequest})
	if err := s.consumer(t.Context()); err == nil {
		t.Fatal("the sign-in for consumers worked")
	}
	began := float64(s.now.Unix())
	s.now = s.now.Add(time.Minute)
	const keyVault, manager = "https://vault.azure.net", "https://management.azure.com"
	for range 2 {
		if err := s.try(t, s.cred); err == nil {
			t.Fatal("the sign-in for a vault worked")
		}
		s.shown(t, "without tokens", began+60, began, manager, keyVault)
		s.now = s.now.Add(time.Minute)
	}
	refused.Clear()
	if err := s.try(t, s.cred); err != nil {
		t.Fatal(err)
	}
	s.shown(t, "once a sign-in works again", 0, 0)
	s.Fail(emulator.Rule{Operation: "token", Status: http.StatusBadRequest})
	if err := s.consumer(t.Context()); err == nil {
		t.Fatal("the sign-in for consumers worked")
	}
	if err := s.try(t, s.cred); err != nil {
		t.Fatal(err)
	}
	s.shown(t, "a vault's token, which never failed, does not help consumers", 0, float64(s.now.Unix()), manager)
}

func TestATokenThatKeydStillHasIsASuccess(t *testing.T) {
	t.Parallel()
	s := newSignIns(t)
	if err := s.try(t, s.cred); err != nil {
		t.Fatal(err)
	}
	s.Fail(emulator.Rule{Operation: "token", Status: http.StatusBadRequest})
	if err := s.try(t, s.cred); err != nil { // by another client, which asks the credential
		t.Fatal(err)
	}
	s.shown(t, "with a token and no endpoint", 0, 0)
}

func TestASignInThatItsCallerGaveUpShowsNothing(t *testing.T) {
	t.Parallel()
	s := newSignIns(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.consumer(ctx); err == nil {
		t.Fatal("it worked")
	}
	s.shown(t, "after a cancelled sign-in", 0, 0)
}
