package e2e_test

import (
	"os"
	"strings"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/status"
)

// consenting: an operator consents to a retire rule, and another rule ends the consent.
func consenting(c *crash) {
	c.retireAfter("1d")
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	consent := c.run("retire", keyName, "--yes", "--reason", "drill")
	c.die("save-before retire rule consented to", consent)
	c.startMortal()
	c.wantConsent(false)
	c.die("save-after retire rule consented to", consent)
	c.startMortal()
	c.wantConsent(true)

	text, err := os.ReadFile(c.path("keyd.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	longer := strings.Replace(string(text), "disable_after: 1d", "disable_after: 2d", 1)
	c.die("save-before consent to the retire rule ended", func() {
		c.write("keyd.yaml", longer)
		c.run("reload")()
	})
	c.die("save-after consent to the retire rule ended", nil)
	c.startMortal()
	c.wantConsent(false)
	c.judge(1, 1)
}

// wantConsent requires that an operator has consented to the key's retire rule, or not.
func (c *crash) wantConsent(given bool) {
	c.t.Helper()
	c.well()
	shown := c.must("retire", keyName)
	if strings.Contains(shown, "No operator has consented") == given {
		c.t.Errorf("consent to the rule should be there: %v; keyd retire says: %s", given, shown)
	}
}

// enabling: somebody disabled the older version, and an operator has keyd enable it.
func enabling(c *crash) {
	first := c.olderDisabled()
	enable := c.run("enable", keyName, first, "--reason", "drill")
	c.die("save-before enabling intended", enable)
	c.startMortal()
	c.die("save-after enabling intended", enable)
	c.dieInTurn("save-before enabled", "save-after enabled")
	c.startMortal()
	c.wait("the version is enabled", func(status.Snapshot, status.Key) bool {
		return c.vault["weu"].Versions(keyName)[0].Enabled
	})
	c.judge(2, 2)
}

// notEnabling: the vault refuses.
func notEnabling(c *crash) {
	first := c.olderDisabled()
	c.emu.Fail(emulator.Rule{Operation: "update", Status: 403, Inner: "ForbiddenByRbac"})
	enable := c.run("enable", keyName, first, "--reason", "drill")
	c.die("save-before enabling did not happen", enable)
	c.die("save-after enabling did not happen", nil)
	c.emu.ClearFailures()
	c.startMortal()
	c.wait("the vault was looked at", func(s status.Snapshot, _ status.Key) bool { return s.Vaults[0].Reachable })
	if c.vault["weu"].Versions(keyName)[0].Enabled {
		c.t.Error("the version is enabled, and the audit says that it is not")
	}
	if err := c.vault["weu"].SetEnabled(keyName, first, true); err != nil { // what was written is read again
		c.t.Fatal(err)
	}
	c.judge(2, 2)
}

// olderDisabled has two generations, the older of which somebody disabled, and returns its version.
func (c *crash) olderDisabled() string {
	c.t.Helper()
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.must("rotate", "--now", keyName, "--reason", "drill", "--timeout", "80s")
	c.waitRotated(2, "nothing")
	c.seal()
	first := c.vault["weu"].Versions(keyName)[0].ID
	if err := c.vault["weu"].SetEnabled(keyName, first, false); err != nil {
		c.t.Fatal(err)
	}
	return first
}

// acknowledging: an operator answers for versions of compromised material that stay enabled.
func acknowledging(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.must("rotate", "--now", keyName, "--compromise", "--yes", "--reason", "drill", "--timeout", "80s")
	c.waitRotated(2, "nothing")
	c.seal()
	c.wait("keyd reminds of the compromised version", func(_ status.Snapshot, k status.Key) bool {
		return len(k.Exposed) > 0
	})
	acknowledge := c.run("acknowledge", keyName, "--reason", "drill")
	c.die("save-before compromised versions acknowledged", acknowledge)
	c.startMortal()
	c.die("save-after compromised versions acknowledged", acknowledge)
	c.startMortal()
	c.wait("the version is answered for", func(_ status.Snapshot, k status.Key) bool {
		return k.State == status.StateOK && len(k.Exposed) == 0
	})
	c.judge(2, 2)
}
