package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

// A disk encryption set is set to one version of the key. It says itself which keys it still needs, so that its old key
// can be disabled at once.
const (
	diskSet = resources + "Microsoft.Compute/diskEncryptionSets/des-1"
	newKey  = keyName + "-2"
	// diskMoves is longer than the disks need to move.
	diskMoves = 11 * time.Minute
)

// replaceStories pass every boundary of the replacing of a key.
func replaceStories() []story {
	return []story{
		{"a key, replaced: asked for, refused, resumed and stopped", onlyWeu, replaceAsked},
		{"a key, replaced: its consumer moved, and disabled by consent", onlyWeu, replaceDone},
	}
}

// replaceable has two keys that are active, and a disk encryption set under the first.
func (c *crash) replaceable() {
	c.t.Helper()
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	spec, err := arm.ParseSpec("disk=des-1,key=https://" + vaultHost + "/keys/" + keyName + "/" + c.versions("weu")[0])
	if err == nil {
		err = c.emu.Consumers().Make(c.t.Context(), spec)
	}
	if err == nil {
		err = c.emu.Consumers().Write(c.t.Context(), "des-1", []byte("a disk"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.stop()
	c.consume(diskSet)
	text, err := os.ReadFile(c.path("keyd.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.write("keyd.yaml", strings.Replace(string(text), "control:", "  "+newKey+
		":\n    spec: RSA-2048\n    vaults: [weu]\ncontrol:", 1))
	c.startMortal()
	c.awaitNewKey()
}

// awaitNewKey waits until the new key is active, and keyd has looked at those who use the old one.
func (c *crash) awaitNewKey() {
	c.t.Helper()
	c.wait("the new key is active", func(s status.Snapshot, old status.Key) bool {
		k, _ := s.Key(newKey)
		looked := old.Consumers != nil && !old.Consumers.At.IsZero()
		return looked && k.State == status.StateOK && len(k.Generations) == 1 && !k.Generations[0].Finished.IsZero()
	})
}

// replacement is what `keyd replace --status` shows.
func (c *crash) replacement() (r status.Replacement) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.must("replace", keyName, "--status", "--json")), &r); err != nil {
		c.t.Fatal(err)
	}
	return r
}

// beginReplace has an operator begin the replacement, or resume it.
func (c *crash) beginReplace() func() {
	return c.run("replace", keyName, "--with", newKey, "--yes", "--reason", "drill")
}

// awaitFailed waits until the move has failed, and stopped.
func (c *crash) awaitFailed() {
	c.t.Helper()
	c.wait("the move has failed", func(_ status.Snapshot, k status.Key) bool {
		return k.Consumers != nil && len(k.Consumers.Moves) == 1 && k.Consumers.Moves[0].State == status.MoveFailed
	})
}

func (c *crash) wantReplaced(begun bool) {
	c.t.Helper()
	c.awaitNewKey()
	c.wait("the replacement is there, or not", func(_ status.Snapshot, k status.Key) bool {
		return (k.Replaced != nil) == begun
	})
}

// replaceAsked: Azure refuses every move, so that nothing happens but what the operator asks for.
func replaceAsked(c *crash) {
	c.replaceable()
	c.refusePatch(http.StatusForbidden)
	for _, point := range []string{"save-before replacement begun", "save-before consumers of another key inherited"} {
		c.die(point, c.beginReplace())
		c.startMortal()
		c.wantReplaced(false)
	}
	c.die("save-after replacement begun", c.beginReplace())
	c.startMortal()
	c.wantReplaced(true)
	c.awaitFailed()
	c.die("save-before replacement resumed", c.beginReplace())
	c.startMortal()
	c.awaitFailed()
	c.die("save-after replacement resumed", c.beginReplace())
	c.startMortal()
	c.awaitFailed()
	stop := c.run("replace", keyName, "--stop", "--reason", "drill")
	c.die("save-before replacement stopped", stop)
	c.startMortal()
	c.wantReplaced(true)
	c.die("save-after consumers of another key inherited", stop)
	c.startMortal()
	c.wantReplaced(false)
	c.must("replace", keyName, "--with", newKey, "--yes", "--reason", "drill")
	c.awaitFailed()
	c.die("save-after replacement stopped", stop)
	c.startMortal()
	c.wantReplaced(false)
	c.wantPatches(0)
	c.judgeReplaced(true, keyName)
}

// replaceDone: the disks move, and the old version is disabled by consent.
func replaceDone(c *crash) {
	c.replaceable()
	c.die("save-before repointing intended", c.beginReplace())
	c.dieInTurn("repoint-after", "save-before consumer repointed", "save-after consumer repointed")
	c.startMortal()
	c.awaitNewKey()
	c.later(diskMoves)
	c.emu.Consumers().Poll(c.t.Context())
	c.later(-diskMoves) // keyd disables nothing while the clocks differ
	if err := poll(patience, func() bool { return c.replacement().MayConsent }, c.daemon.ended); err != nil {
		c.t.Fatalf("the disks are not seen to work: %v: %+v", err, c.replacement())
	}
	consent := c.run("replace", keyName, "--disable", "--yes", "--reason", "drill")
	c.die("save-before disabling of a replaced key consented to", consent)
	c.startMortal()
	c.awaitNewKey()
	if r := c.replacement(); r.Consent != nil {
		c.t.Errorf("the consent is there: %+v", r)
	}
	c.die("save-after disabling of a replaced key consented to", consent)
	c.dieInTurn("save-before disabling intended", "save-after disabling intended", "disable-before", "disable-after",
		"save-before disabled", "save-after disabled", "save-before key replaced", "save-after key replaced")
	c.startMortal()
	c.wait("the key is replaced", func(_ status.Snapshot, k status.Key) bool {
		return k.Replaced != nil && !k.Replaced.Done.IsZero()
	})
	c.wantPatches(1)
	c.judgeReplaced(false, newKey)
}

// judgeReplaced stops the daemon, and requires a consistent audit chain, one version of each key, the old one enabled
// or not, and a disk encryption set that uses one of the keys and reads what it wrote.
func (c *crash) judgeReplaced(enabled bool, uses string) {
	c.t.Helper()
	c.stop()
	if a := c.command("audit", "--verify", "--state", c.path("state")); a.code != 0 {
		c.t.Errorf("keyd audit --verify: %s%s", a.stdout, a.stderr)
	}
	for _, name := range []string{keyName, newKey} {
		all := c.vault["weu"].Versions(name)
		if len(all) != 1 || all[0].Enabled != (enabled || name == newKey) {
			c.sum.doubled.Add(1)
			c.t.Errorf("%s has these versions: %+v", name, all)
		}
	}
	for _, r := range c.emu.Consumers().ReadEverything(c.t.Context()).Consumers {
		if !strings.Contains(r.InUse, "/keys/"+uses+"/") || len(r.Lost) > 0 || r.Read == 0 {
			c.sum.lost.Add(int64(len(r.Lost)))
			c.t.Errorf("the disks use %s, have read %d and lost %v", r.InUse, r.Read, r.Lost)
		}
	}
}
