package etcdtest_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// waitHealthy waits until a member is healthy, or is not.
func waitHealthy(t *testing.T, m *etcdtest.Member, want bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); m.Healthy() != want; {
		if time.Now().After(limit) {
			t.Fatalf("%s healthy: %t, a minute long", m.Name, !want)
		}
	}
}

func TestAMemberOfThreeIsPausedKilledAndStartedAgain(t *testing.T) {
	c := etcdtest.Start(t, etcdtest.Options{Members: 3, TLS: true})
	if len(c.Endpoints()) != 3 || c.Files.CA == "" {
		t.Fatalf("%q, %+v", c.Endpoints(), c.Files)
	}
	m := c.Members[0]
	m.Pause()
	waitHealthy(t, m, false)
	m.Continue()
	waitHealthy(t, m, true)
	m.Kill()
	waitHealthy(t, m, false)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	waitHealthy(t, m, true)
}
