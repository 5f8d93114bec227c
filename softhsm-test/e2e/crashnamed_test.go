package e2e_test

import (
	"os"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

var onlyWeu = []string{"weu"}

// namedStories pass every kill point of the processes.
func namedStories() []story {
	stories := []story{
		{"a rotation, making", nil, rotations(
			"save-before rotation requested", "save-after rotation requested",
			"save-before generation reserved", "save-after generation reserved",
			"save-before generation intended", "save-after generation intended",
			"generate-before", "generate-after",
			"save-before generation made", "save-after generation made",
			"save-before generation pinned", "save-after generation pinned", "pin-after",
			"save-before import intended")},
		{"a rotation, the first vault", nil, rotations(
			"import-after", "save-before imported", "save-after imported",
			"prove-before", "prove-after", "save-before proof passed", "save-after proof passed")},
		{"a rotation, the second vault", nil, rotations(
			"save-before import intended:2", "import-after:2", "save-before imported:2", "save-after imported:2",
			"prove-before:2", "prove-after:2", "save-before proof passed:2", "save-after proof passed:2",
			"save-before rotation finished", "save-after rotation finished")},
		{"a spare, made, promoted and discarded", onlyWeu, spareMade},
		{"an import whose answer died with the daemon", onlyWeu, lostAnswer},
		{"an id given up and swept", onlyWeu, sweeping},
		{"a key exchange key, its making", onlyWeu, makingKEKs(
			"save-before key exchange key intended", "kek-after", "save-before key exchange key made")},
		{"a key exchange key of a Managed HSM, its making", []string{"mhsm"}, makingKEKs(
			"save-before key exchange key intended", "save-before key exchange key made")},
		{"a key exchange key, its record", onlyWeu, makingKEKs(
			"save-after key exchange key made", "save-before key exchange key taken into use",
			"save-after key exchange key taken into use")},
		{"a key exchange key, asked for", onlyWeu, askingForKEK},
		{"a key exchange key, disabled", onlyWeu, disablingKEK},
		{"a key exchange key, not disabled", onlyWeu, notDisablingKEK},
		{
			"a key exchange key, intended and not recorded as refused",
			onlyWeu,
			refusedKEK("save-before key exchange key not made"),
		},
		{"a key exchange key, refused", onlyWeu, refusedKEK("save-after key exchange key not made")},
		{
			"an import, refused and not recorded as refused",
			onlyWeu,
			refusedImport("save-before import did not happen"),
		},
		{"an import, refused", onlyWeu, refusedImport("save-after import did not happen")},
		{"an import given up", onlyWeu, givingUp},
		{"a duplicate", onlyWeu, duplicate},
		{"a refuted proof", onlyWeu, refuted},
		{"an operator", onlyWeu, operator},
		{"a foreign version", onlyWeu, foreignVersion},
		{"disabling", nil, disabling},
		{"a disabling that did not happen", onlyWeu, notDisabling},
		{"a consent to retire", onlyWeu, consenting},
		{"an enabling", onlyWeu, enabling},
		{"an enabling that did not happen", onlyWeu, notEnabling},
		{"an act of two operators", onlyWeu, proposing},
		{"settings of two operators", onlyWeu, keepingSettings},
		{"compromised versions, acknowledged", onlyWeu, acknowledging},
		{"the HSM side, making", nil, hsmSide("hsm-generate-before", "hsm-generate-after")},
		{"the HSM side, relabelling", nil,
			hsmSide("hsm-relabel-before", "hsm-relabel-after", "hsm-relabel-before:2", "hsm-relabel-after:2")},
		{"the HSM side, wrapping", nil,
			hsmSide("hsm-wrap-before", "hsm-wrap-after", "hsm-wrap-before:2", "hsm-wrap-after:2")},
		{"the HSM side, trusting", nil, hsmSideAtFirst("hsm-trust-before", "hsm-trust-after")},
		{"the HSM side, trusting the second", nil, hsmSideAtFirst("hsm-trust-before:2")},
		{"the HSM side, trusted the second", nil, hsmSideAtFirst("hsm-trust-after:2")},
		{"the HSM side, before its login", nil, hsmSideAtFirst("hsm-login-before")},
		{"the HSM side, after its login", nil, hsmSideAtFirst("hsm-login-after")},
		{"the HSM side, trying out the token", onlyWeu, hsmSideAtFirst("hsm-trial-before", "hsm-trial-after")},
		{"the HSM side, sweeping", onlyWeu, hsmSideSweeping},
		{"the audit key, its making", onlyWeu, auditing(
			"save-before audit key intended", "save-after audit key intended", "audit-key-before", "audit-key-after",
			"save-before audit key made", "save-after audit key made",
			"sign-before", "sign-after", "save-before checkpoint signed", "save-after checkpoint signed")},
		{"the audit key, found", onlyWeu, foundAuditKey},
		{
			"the HSM side, making the audit key",
			onlyWeu,
			hsmSideAuditing("hsm-audit-key-before", "hsm-audit-key-after"),
		},
		{
			"the HSM side, signing", onlyWeu,
			hsmSideAuditing("hsm-sign-before", "hsm-sign-after", "hsm-head-before", "hsm-head-after"),
		},
	}
	for _, at := range []struct{ point, vault, host string }{
		{"save-after import intended", "weu", vaultHost},
		{"import-before", "weu", vaultHost},
		{"put-before", "weu", vaultHost},
		{"save-after import intended:2", "mhsm", hsmHost},
		{"import-before:2", "mhsm", hsmHost},
		{"put-before:2", "mhsm", hsmHost},
	} {
		stories = append(stories, story{"not sent, " + at.point, nil, notSent(at.point, at.vault, at.host)})
	}
	for _, point := range []string{"save-after key exchange key intended", "kek-before"} {
		stories = append(stories, story{"not sent, " + point, nil, func(c *crash) {
			c.die(point, nil)
			c.finishLater()
			c.judge(1, 1)
			c.wantOneKEK()
		}})
	}
	return stories
}

// rotations kills one rotation after the other, each at another point.
func rotations(points ...string) func(*crash) {
	return func(c *crash) {
		c.startMortal()
		c.waitRotated(1, "nothing")
		n := 1
		for _, point := range points {
			c.seal()
			c.die(point, c.ask)
			c.startMortal()
			if point == "save-before rotation requested" {
				c.ask() // nobody knows that it was accepted
			}
			n++
			c.waitRotated(n, point)
		}
		c.seal()
		c.judge(n, n)
	}
}

// spareMade kills over a spare: at its making, at the rotation that promotes it, and when the next one is discarded.
func spareMade(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.stop()
	c.set.spares = 1
	c.configure()
	c.dieInTurn("save-before spare reserved", "save-after spare reserved", "save-before generation pinned",
		"save-after generation pinned")
	c.startMortal()
	c.waitSpare(2)
	c.die("save-before spare promoted", c.ask)
	c.die("save-after spare promoted", nil)
	c.startMortal()
	c.waitRotated(2, "save-after spare promoted")
	c.seal()
	c.waitSpare(3)
	c.stop()
	c.set.spares = 0
	c.configure()
	c.dieInTurn("save-before spare discarded", "save-after spare discarded")
	c.startMortal()
	c.well()
	c.swept(1)
	c.judge(2, 2)
}

func lostAnswer(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.die("import-after", c.ask)
	c.dieInTurn("save-before imported", "save-after imported")
	c.startMortal()
	c.waitRotated(2, "save-after imported")
	c.judge(2, 2)
}

func sweeping(c *crash) {
	id := c.giveUpAnID()
	c.stop()
	for _, point := range []string{
		"save-before destruction intended", "save-after destruction intended", "sweep-before",
		"sweep-after", "save-before abandoned pair destroyed", "save-after abandoned pair destroyed",
	} {
		c.plant(id)
		c.die(point, nil)
	}
	c.startMortal()
	c.well()
	c.must("pause", keyName, "--reason", "until all is planted") // a half that keyd sees before would count alone
	c.plant(id)
	c.must("resume", keyName, "--reason", "all is planted")
	c.swept(2)
	c.well()
	c.judge(2, 2)
}

// giveUpAnID makes two generations, and makes keyd give up an id on the way to the second.
func (c *crash) giveUpAnID() key.ID {
	c.t.Helper()
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.die("generate-before", c.ask)
	c.dieInTurn("save-before id abandoned", "save-after id abandoned")
	c.startMortal()
	c.waitRotated(2, "save-after id abandoned")
	return c.abandoned()
}

func hsmSideSweeping(c *crash) {
	id := c.giveUpAnID()
	for n, point := range []string{"hsm-destroy-before", "hsm-destroy-after", "hsm-destroy-after:2"} {
		c.must("pause", keyName, "--reason", "until all is planted")
		c.plant(id)
		c.copyToken()
		c.arm(point)
		c.must("resume", keyName, "--reason", "all is planted")
		c.awaitStrike()
		c.named++
		c.swept(n + 1)
	}
	c.well()
	c.judge(2, 2)
}

func makingKEKs(points ...string) func(*crash) {
	return func(c *crash) {
		c.dieInTurn(points...)
		c.startMortal()
		c.waitRotated(1, points[len(points)-1])
		c.seal()
		c.judge(1, 1)
		c.wantOneKEK()
	}
}

// askingForKEK kills during the request for a new KEK: once the request is recorded, keyd makes one.
func askingForKEK(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	ask := c.run("kek", "rotate", "weu", "--reason", "a drill")
	c.die("save-before key exchange key requested", ask)
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.die("save-after key exchange key requested", ask)
	c.startMortal()
	c.wait("the new key exchange key waits for approval", func(s status.Snapshot,
		_ status.Key) bool {
		return s.Vaults[0].WaitingKEK() != nil
	})
	if n := len(c.vault["weu"].Versions("keyd-kek")); n != 2 {
		c.sum.doubled.Add(1)
		c.t.Errorf("%d key exchange keys, not 2", n)
	}
	c.judge(1, 1)
}

// rotatedKEK rotates the KEK two hours ago, so that keyd must disable the old one now.
func (c *crash) rotatedKEK() {
	c.t.Helper()
	c.elsewhen(-2*time.Hour, func(in *inside) {
		in.settle()
		if _, _, err := in.RequestKEK(in.w.t.Context(), in.vaults[0], "uid 0 (root)", "a drill"); err != nil {
			in.w.t.Fatal(err)
		}
		in.settle()
		in.w.set.fingerprint = in.w.kekPrint()
		in.w.configure()
		in.later()
		in.settle()
	})
}

// wantKEKs requires that there are two KEKs, and that the old one is enabled or not.
func (c *crash) wantKEKs(old bool) {
	c.t.Helper()
	if all := c.vault["weu"].Versions("keyd-kek"); len(all) != 2 || all[0].Enabled != old || !all[1].Enabled {
		c.sum.lost.Add(1)
		c.t.Errorf("key exchange keys: %+v; the old one should be enabled: %v", all, old)
	}
}

func disablingKEK(c *crash) {
	c.rotatedKEK()
	c.dieInTurn("save-before disabling of a key exchange key intended",
		"save-after disabling of a key exchange key intended",
		"kek-disable-before", "kek-disable-after", "save-before key exchange key disabled",
		"save-after key exchange key disabled")
	c.startMortal()
	c.waitRotated(1, "the disabling")
	c.wantKEKs(false)
	c.judge(1, 1)
}

// notDisablingKEK: the vault refuses to disable the old KEK.
func notDisablingKEK(c *crash) {
	c.rotatedKEK()
	c.emu.Fail(emulator.Rule{Operation: "update", Status: 403, Inner: "ForbiddenByRbac"})
	c.dieInTurn("save-before disabling of a key exchange key did not happen",
		"save-after disabling of a key exchange key did not happen")
	c.startMortal()
	c.waitRotated(1, "the refusal")
	c.wantKEKs(true)
	c.judge(1, 1)
}

func (c *crash) wantOneKEK() {
	c.t.Helper()
	for _, v := range c.set.vaults {
		if n := len(c.vault[v].Versions("keyd-kek")); n != 1 {
			c.sum.doubled.Add(1)
			c.t.Errorf("vault %s has %d key exchange keys, not 1", v, n)
		}
	}
}

func refusedKEK(point string) func(*crash) {
	return func(c *crash) {
		c.emu.Fail(emulator.Rule{Operation: "create", Status: 403, Inner: "ForbiddenByRbac", Count: 1})
		c.die(point, nil)
		c.endRefused(point)
		c.wantOneKEK()
	}
}

func refusedImport(point string) func(*crash) {
	return func(c *crash) {
		c.emu.Fail(emulator.Rule{Operation: "import", Status: 403, Inner: "ForbiddenByRbac", Count: 1})
		c.die(point, nil)
		c.endRefused(point)
	}
}

// endRefused: keyd tries a recorded refusal again at once. Without a record the outcome is unknown, and keyd waits it
// out.
func (c *crash) endRefused(point string) {
	c.t.Helper()
	if strings.HasPrefix(point, "save-before") {
		c.finishLater()
	} else {
		c.startMortal()
		c.waitRotated(1, point)
	}
	c.judge(1, 1)
}

// givingUp: an import was lost on its way an hour ago.
func givingUp(c *crash) {
	c.emu.Fail(emulator.Rule{Operation: "import", Drop: emulator.DropBeforeCommit, Count: 1})
	c.elsewhen(-time.Hour, func(in *inside) { in.settle() })
	c.dieInTurn("save-before import did not happen", "save-after import did not happen")
	c.startMortal()
	c.waitRotated(1, "save-after import did not happen")
	c.judge(1, 1)
}

// duplicate: an import happened, its answer was lost, and the listing did not show it for longer than a vault ever
// takes; so keyd repeated it.
func duplicate(c *crash) {
	c.emu.Fail(emulator.Rule{Operation: "import", Drop: emulator.DropAfterCommit, Count: 1})
	c.emu.Fail(emulator.Rule{Operation: "versions", Key: keyName, Stale: 30 * time.Minute})
	c.elsewhen(-time.Hour, func(in *inside) {
		in.settle()
		in.w.later(5 * time.Minute)
		for range 20 {
			if _, err := in.step(); err == nil && len(in.w.versions("weu")) == 2 {
				return
			}
		}
		in.w.t.Fatal("the import was not repeated")
	})
	c.emu.ClearFailures()
	c.seal()
	c.dieInTurn("save-before duplicate version adopted", "save-after duplicate version adopted")
	c.startMortal()
	c.waitGeneration(1)
	c.well()
	if aliases := c.key().Generations[0].Placements; !hasAlias(aliases) {
		c.t.Errorf("the duplicate is not recorded: %+v", aliases)
	}
	c.judge(1, 2) // the second was not keyd's, and was adopted
}

func hasAlias(placements []status.Placement) bool {
	for _, p := range placements {
		if len(p.Aliases) > 0 {
			return true
		}
	}
	return false
}

// refuted: the vault decrypts what is wrapped under the version to something else.
func refuted(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.die("save-after imported", c.ask)
	versions := c.versions("weu")
	if err := c.vault["weu"].GarbleUnwrap(keyName, versions[len(versions)-1]); err != nil {
		c.t.Fatal(err)
	}
	c.dieInTurn("save-before proof refuted", "save-after proof refuted", "import-after", "save-after imported",
		"save-before key held", "save-after key held")
	c.startMortal()
	c.waitHold(key.HoldRefuted)
	c.judge(2, 3) // generation 1, generation 2, and generation 1 again
}

func operator(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	pause := c.run("pause", keyName, "--reason", "drill")
	resume := c.run("resume", keyName, "--reason", "drill")
	for _, at := range []struct {
		point string
		do    func()
		held  bool
	}{
		{"save-before key paused", pause, false},
		{"save-after key paused", pause, true},
		{"save-before key resumed", resume, true},
		{"save-after key resumed", resume, false},
	} {
		c.die(at.point, at.do)
		c.startMortal()
		c.wait("the key shows whether it is held",
			func(_ status.Snapshot, k status.Key) bool { return (k.Hold != nil) == at.held })
	}
	c.judge(1, 1)
}

func foreignVersion(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.die("save-before key held", func() {
		if _, err := c.vault["weu"].AddForeignVersion(keyName); err != nil {
			c.t.Fatal(err)
		}
	})
	c.seal() // data wrapped under the foreign one must stay readable, too
	c.die("save-after key held", nil)
	adopt := c.run("adopt", keyName, "--yes", "--reason", "drill")
	c.startMortal()
	c.waitHold(key.HoldForeign)
	c.die("save-before adopted", adopt)
	c.startMortal()
	c.waitHold(key.HoldForeign)
	c.die("save-after adopted", adopt)
	c.startMortal()
	c.well()
	c.must("rotate", "--now", keyName, "--reason", "over the foreign version", "--timeout", "80s")
	c.waitGeneration(2)
	c.seal()
	c.judge(2, 3)
}

// disabling: two generations were made three days ago, and the rule says one day. retirable has two generations; the
// retire rule makes keyd disable the older one.
func (c *crash) retirable() {
	c.retireAfter("1d")
	c.elsewhen(-72*time.Hour, func(in *inside) {
		in.settle()
		if _, _, err := in.Request(in.w.t.Context(), in.policy,
			rotate.Wanted{Actor: "test", Reason: "drill"}); err != nil {
			in.w.t.Fatal(err)
		}
		if s := in.settle(); s.Kind != plan.Idle {
			in.w.t.Fatalf("the loop ends with %s: %s", s.Kind, s.Why)
		}
		in.consent()
	})
}

// consent is an operator's consent to the retire rule, and to what it is to disable now.
func (in *inside) consent() {
	ctx, p := in.w.t.Context(), in.policy
	shown, err := in.Retirement(ctx, p, p.Retire)
	if err == nil {
		err = in.ConsentToRetire(ctx, p, "test", "as shown", shown.Digest)
	}
	if err != nil {
		in.w.t.Fatal(err)
	}
}

// notDisabling: the vault refuses, and then the rule is withdrawn. In the end the disabling comes late all the same, as
// if a proxy had held it up, and keyd undoes it.
func notDisabling(c *crash) {
	without, err := os.ReadFile(c.path("keyd.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.retirable()
	c.emu.Fail(emulator.Rule{Operation: "update", Status: 403, Inner: "ForbiddenByRbac"})
	c.elsewhen(-30*time.Minute, func(in *inside) {
		for range 10 {
			if s, err := in.step(); s.Kind == plan.Disable && err != nil {
				return
			}
		}
		in.w.t.Fatalf("nothing was to be disabled: %v", in.events)
	})
	c.emu.ClearFailures()
	c.write("keyd.yaml", string(without))
	c.dieInTurn("save-before disabling did not happen", "save-after disabling did not happen")
	if err := c.vault["weu"].SetEnabled(keyName, c.vault["weu"].Versions(keyName)[0].ID, false); err != nil {
		c.t.Fatal(err)
	}
	c.dieInTurn("save-before disabling came late", "save-after disabling came late")
	c.startMortal()
	c.well()
	c.wait("the version is enabled", func(status.Snapshot, status.Key) bool {
		return c.vault["weu"].Versions(keyName)[0].Enabled
	})
	for _, x := range c.vault["weu"].Versions(keyName) {
		if !x.Enabled {
			c.sum.lost.Add(1)
			c.t.Errorf("version %s is disabled", x.ID)
		}
	}
	c.judge(2, 2)
}

func disabling(c *crash) {
	c.retirable()
	c.dieInTurn("save-before disabling intended", "save-after disabling intended", "disable-before", "disable-after",
		"save-before disabled", "save-after disabled")
	c.startMortal()
	c.wait("generation 1 is disabled everywhere", func(_ status.Snapshot, k status.Key) bool {
		for _, p := range k.Generations[0].Placements {
			if p.State != key.Disabled {
				return false
			}
		}
		return true
	})
	for _, v := range c.set.vaults {
		if all := c.vault[v].Versions(keyName); all[0].Enabled || !all[1].Enabled {
			c.sum.lost.Add(1)
			c.t.Errorf("vault %s: generation 1 is enabled: %v, generation 2: %v", v, all[0].Enabled, all[1].Enabled)
		}
	}
	c.enableAgain()
	c.judge(2, 2)
}

// enableAgain: an operator enables a version that the rule disabled, in one command, and the rule leaves it alone.
func (c *crash) enableAgain() {
	c.t.Helper()
	first := c.vault["weu"].Versions(keyName)[0]
	c.must("enable", keyName, first.ID, "--reason", "a service still reads under it")
	if again := c.vault["weu"].Versions(keyName)[0]; !again.Enabled || again.ID != first.ID {
		c.t.Errorf("version %s is not enabled again: %+v", first.ID, again)
	}
	if shown := c.must("retire", keyName); !strings.Contains(shown, "No operator has consented") ||
		!strings.Contains(shown, first.ID) {
		c.t.Errorf("keyd retire says: %s", shown)
	}
}

func hsmSide(points ...string) func(*crash) {
	return func(c *crash) {
		c.startMortal()
		c.waitRotated(1, "nothing")
		n := 1
		for _, point := range points {
			c.seal()
			c.copyToken()
			c.arm(point)
			c.ask()
			c.awaitStrike()
			c.named++
			n++
			c.waitRotated(n, point)
		}
		c.judge(n, n)
	}
}

func hsmSideAtFirst(points ...string) func(*crash) {
	return func(c *crash) {
		c.strikeInTurn(points...)
		c.judge(1, 1)
	}
}

// strikeInTurn makes each new HSM side die at the next point on the way to the first generation.
func (c *crash) strikeInTurn(points ...string) {
	c.t.Helper()
	for _, point := range points {
		c.copyToken()
		c.arm(point)
		if c.daemon == nil {
			c.startMortal()
		}
		c.awaitStrike()
		c.named++
	}
	c.waitRotated(1, points[len(points)-1])
	c.seal()
}

// notSent: a recorded placement that was not sent looks like one whose answer was lost.
func notSent(point, vault, host string) func(*crash) {
	return func(c *crash) {
		c.die(point, nil)
		c.start()
		c.wait("status explains what is waited for", func(_ status.Snapshot, k status.Key) bool {
			return strings.Contains(k.Waiting, "whether vault "+vault+" took the import; it will know at")
		})
		if n := c.imports(host); n != 0 {
			c.sum.doubled.Add(int64(n))
			c.t.Errorf("%d imports were sent before the wait was over", n)
		}
		c.finishLater()
		c.judge(1, 1)
	}
}

func auditing(points ...string) func(*crash) {
	return func(c *crash) {
		c.dieInTurn(points...)
		c.startMortal()
		c.waitRotated(1, points[len(points)-1])
		c.seal()
		c.wantOneAuditKey()
		c.judge(1, 1)
	}
}

// foundAuditKey: a state that does not know the token's keys holds its key, and that entry is signed.
func foundAuditKey(c *crash) {
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	c.wantOneAuditKey()
	c.stop()
	c.loseChain()
	if err := os.Rename(c.path("state/keyd.db"), c.path("keyd.db.lost")); err != nil {
		c.t.Fatal(err)
	}
	c.dieInTurn("save-before audit key found", "save-after audit key found")
	c.startMortal()
	c.waitHold(key.HoldRecordBehind)
	c.acceptHead("the test lost the state")
	c.wantOneAuditKey()
	c.judge(1, 1)
}

func hsmSideAuditing(points ...string) func(*crash) {
	return func(c *crash) {
		c.strikeInTurn(points...)
		c.wantOneAuditKey()
		c.judge(1, 1)
	}
}

// wantOneAuditKey waits until a checkpoint is signed, which two audit keys would prevent.
func (c *crash) wantOneAuditKey() {
	c.t.Helper()
	err := poll(patience, func() bool { return c.cli("audit", "checkpoint").code == 0 }, c.daemon.ended)
	if err != nil {
		a := c.cli("audit", "checkpoint")
		c.t.Fatalf("no checkpoint is signed: %v: %s%s", err, a.stdout, a.stderr)
	}
}
