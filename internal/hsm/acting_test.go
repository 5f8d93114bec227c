package hsm

import (
	"errors"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// turnedNow reports whether there is a word that the HSM side acts on another configuration.
func turnedNow(c *Client) bool {
	select {
	case <-c.Turned():
		return true
	default:
		return false
	}
}

func TestEveryAnswerSaysWhichConfigurationTheHSMSideActsOn(t *testing.T) {
	before := permit(nil, map[string]KeyRights{"sa-cmk-key": {}})
	after := permit(nil, map[string]KeyRights{"sa-cmk-key": {Vaults: []string{vaultURL}}})
	if before.Digest() == after.Digest() {
		t.Fatal("two configurations with one digest")
	}
	reading := &changing{rights: before}
	f := &fakeCalls{}
	s := &server{calls: f, permitted: reading.permitted, log: slog.New(slog.DiscardHandler)}
	ours, theirs := net.Pipe()
	go func() { _ = s.serveConn(t.Context(), theirs) }()
	c := newClient(fixed{ours}, Timeouts{}, newMetrics(prometheus.NewRegistry()))
	t.Cleanup(c.Close)

	ask := func(what string, wantTurned bool, wantConfig string) {
		t.Helper()
		_, _ = c.Find(t.Context(), "00112233445566778899aabbccddeeff")
		if turned := turnedNow(c); turned != wantTurned || c.config != wantConfig {
			t.Errorf("%s: turned %v, acting on %q; want %v, %q", what, turned, c.config, wantTurned, wantConfig)
		}
	}
	ask("the first answer", true, before.Digest())
	ask("the same again", false, before.Digest())
	reading.rights = after
	ask("another", true, after.Digest())
	f.err = errors.New("no")
	reading.rights = before
	ask("a refusal", true, before.Digest())
	reading.err = errors.New("the configuration has mistakes")
	ask("none that is valid", true, "")
}
