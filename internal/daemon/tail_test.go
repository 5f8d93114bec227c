package daemon

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// reloads are a store whose chain has a reload of each policy.
func reloads(t *testing.T, policies ...string) *shared.Store {
	t.Helper()
	s := must[*shared.Store](t)(shared.Open(t.Context(), storetest.NewMemory(time.Now),
		shared.Options{Dir: t.TempDir(), Host: "host-a", Now: time.Now}))
	t.Cleanup(func() { _ = s.Close() })
	for _, policy := range policies {
		err := s.Append(t.Context(), chain.Entry{Event: chain.ConfigReloaded, Actor: "uid 0 (root)",
			Fields: map[string]string{chain.FieldPolicy: policy}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// A failover that lost changes also loses which configuration was put into force, or brings in another one at the same
// place of the chain.
func TestAHostReadsAnewWhatAStoreHasThatLostEntries(t *testing.T) {
	for name, left := range map[string][]string{
		"it is shorter":               {"one"},
		"it has other entries by now": {"two", "one", "one"},
		"it is longer by now":         {"two", "two", "two", "one"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := twoHosts(t)
			a.store = reloads(t, "one", "two", "three")
			a.follow(t.Context())
			if got := a.hosts.policyInForce(); got != "three" {
				t.Fatalf("configuration %q is in force", got)
			}
			a.store = reloads(t, left...)
			a.follow(t.Context())
			if got := a.hosts.policyInForce(); got != "one" || a.hosts.headSeen() != uint64(len(left)) {
				t.Errorf("this host takes configuration %q for the one in force, and sees entry %d", got,
					a.hosts.headSeen())
			}
		})
	}
}
