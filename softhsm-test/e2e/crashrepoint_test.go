package e2e_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/consumer"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/vault"
)

// account is an AI account that is set to one version, and that keyd moves.
const account = resources + "Microsoft.CognitiveServices/accounts/ai-1"

// repointStories pass every boundary of the moving of a consumer.
func repointStories() []story {
	stories := []story{
		{"a consumer, moved", onlyWeu, moving("save-before repointing intended", "repoint-after",
			"save-before consumer repointed", "save-after consumer repointed")},
		{"a consumer, refused", onlyWeu, refusedMove},
		{"a consumer, busy", onlyWeu, func(c *crash) {
			c.leftBehind()
			c.refusePatch(http.StatusConflict)
			c.die("save-after repointing did not happen", nil)
			c.emu.ClearFailures()
			c.startMortal()
			c.wantMoved(1)
			c.judge(2, 2)
		}},
		{"a consumer, refused and not recorded as refused", onlyWeu,
			forgotten("save-before repointing failed", http.StatusForbidden)},
		{"a consumer, busy and not recorded as that", onlyWeu,
			forgotten("save-before repointing did not happen", http.StatusConflict)},
		{"a consumer, where it should be", onlyWeu, notNeeded},
		{"a consumer, asked for too long ago", onlyWeu, askedLongAgo},
	}
	for _, point := range []string{"save-after repointing intended", "repoint-before"} {
		stories = append(stories, story{"a consumer, not asked, " + point, onlyWeu, forgotten(point, 0)})
	}
	return stories
}

// moving kills one move after the other, each at another point. keyd moves the account while it starts, so that
// nothing depends on when it looks.
func moving(points ...string) func(*crash) {
	return func(c *crash) {
		c.leftBehind()
		for i, point := range points {
			c.die(point, nil)
			c.startMortal()
			c.wantMoved(i + 1)
			if i+1 < len(points) {
				c.rotateAlone(i + 3)
			}
		}
		c.judge(len(points)+1, len(points)+1)
	}
}

// refusedMove: Azure refuses, and an operator asks again.
func refusedMove(c *crash) {
	c.leftBehind()
	c.refusePatch(http.StatusForbidden)
	c.die("save-after repointing failed", nil)
	c.emu.ClearFailures()
	c.startMortal()
	again := c.run("repoint", keyName, "--reason", "the role is there")
	c.die("save-before repointing requested", again)
	c.startMortal()
	c.die("save-after repointing requested", again)
	c.startMortal()
	c.wantMoved(1)
	c.judge(2, 2)
}

// notNeeded: an operator asks for a move of an account that is set to the newest version.
func notNeeded(c *crash) {
	c.leftBehind()
	c.startMortal()
	c.wantMoved(1)
	c.die("save-before repointing not needed", c.run("repoint", keyName, account, "--reason", "to be sure"))
	c.die("save-after repointing not needed", nil)
	c.startMortal()
	c.wantMoved(1)
	c.judge(2, 2)
}

// askedLongAgo: a request is too old when keyd comes to it. keyd moves the account all the same, because the
// configuration says that it does.
func askedLongAgo(c *crash) {
	c.leftBehind()
	c.elsewhen(-plan.RepointAsked-time.Hour, func(in *inside) {
		if err := in.AskRepoint(in.w.t.Context(), in.policy, "uid 0", "drill", nil); err != nil {
			in.w.t.Fatal(err)
		}
	})
	c.die("save-before repointing request lapsed", nil)
	c.die("save-after repointing request lapsed", nil)
	c.startMortal()
	c.wantMoved(1)
	c.judge(2, 2)
}

// forgotten: keyd dies and does not know whether the account was asked. It was not, or it refused. keyd waits until the
// account would show it, and asks only after an operator has.
func forgotten(point string, refusal int) func(*crash) {
	return func(c *crash) {
		c.leftBehind()
		if refusal > 0 {
			c.refusePatch(refusal)
		}
		c.die(point, nil)
		c.emu.ClearFailures()
		c.elsewhen(time.Second, func(in *inside) { in.settle() })
		c.wantPatches(0)
		c.elsewhen(plan.RepointTime, func(in *inside) {
			in.settle()
			c.wantPatches(0)
			if failed := in.record().Repointing; failed == nil || failed.Open() {
				in.w.t.Errorf("the move has not failed: %+v", failed)
			}
			if err := in.AskRepoint(in.w.t.Context(), in.policy, "uid 0", "drill", nil); err != nil {
				in.w.t.Fatal(err)
			}
			c.later(2 * time.Minute)
			in.later()
			in.settle()
		})
		c.wantPatches(1)
		c.wantOnNewest()
		c.judge(2, 2)
	}
}

// leftBehind has two generations, and an account that is set to the first. No daemon runs, and the next one moves it.
func (c *crash) leftBehind() {
	c.t.Helper()
	c.startMortal()
	c.waitRotated(1, "nothing")
	c.seal()
	spec, err := arm.ParseSpec("ai=ai-1,key=https://" + vaultHost + "/keys/" + keyName + "/" + c.versions("weu")[0])
	if err == nil {
		err = c.emu.Consumers().Make(c.t.Context(), spec)
	}
	if err == nil {
		err = c.emu.Consumers().Write(c.t.Context(), "ai-1", []byte("an answer"))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.rotateAlone(2)
}

// rotateAlone makes generation n while keyd has no consumers, and stops it.
func (c *crash) rotateAlone(n int) {
	c.t.Helper()
	if c.daemon != nil {
		c.stop()
	}
	c.configure()
	c.startMortal()
	c.ask()
	c.waitRotated(n, "nothing")
	c.seal()
	c.stop()
	c.consume("{id: " + account + ", follow: keyd}")
}

// refusePatch makes Resource Manager refuse every change.
func (c *crash) refusePatch(code int) {
	c.emu.Fail(emulator.Rule{Operation: "resource", Method: http.MethodPatch, Status: code})
}

// wantMoved waits until the account is on the newest version, and requires that it was asked so often in all.
func (c *crash) wantMoved(times int) {
	c.t.Helper()
	c.wait("the account has moved", func(_ status.Snapshot, k status.Key) bool {
		return k.State == status.StateOK && strings.Count(c.must("audit", "--json"),
			`"event":"consumer repointed"`) == times
	})
	c.wantPatches(times)
	c.wantOnNewest()
}

func (c *crash) wantOnNewest() {
	c.t.Helper()
	versions := c.versions("weu")
	for _, r := range c.emu.Consumers().ReadEverything(c.t.Context()).Consumers {
		if !strings.HasSuffix(r.InUse, versions[len(versions)-1]) || len(r.Lost) > 0 || r.Read == 0 {
			c.t.Errorf("the account uses %s, has read %d and lost %v; the versions are %v", r.InUse, r.Read, r.Lost,
				versions)
		}
	}
}

// wantPatches requires how often the account was changed.
func (c *crash) wantPatches(n int) {
	c.t.Helper()
	done := 0
	for _, r := range c.emu.Requests() {
		if r.Method == http.MethodPatch && r.Operation == "resource" && r.Done > 0 && r.Done < 300 {
			done++
		}
	}
	if done != n {
		c.sum.doubled.Add(1)
		c.t.Errorf("the account was changed %d times, not %d", done, n)
	}
}

// users sees and moves the consumers for the loop in this process.
func (in *inside) users() (*consumer.Watcher, func(context.Context, rotate.Move) error) {
	w, transport := in.w, vault.HTTPClient(in.w.emu.Transport())
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity, ClientID: rand.Text()},
		transport)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := consumer.NewClient(consumer.ClientConfig{Credential: cred, Transport: transport,
		Budget: consumer.NewBudget(1e6, 1e6)})
	if err != nil {
		w.t.Fatal(err)
	}
	watcher := consumer.NewWatcher(consumer.Config{Ledgers: in.store, Clock: w.now,
		Logger: slog.New(slog.DiscardHandler)})
	watcher.Use(c, nil)
	return watcher, func(ctx context.Context, m rotate.Move) error {
		return c.Repoint(ctx, consumer.Move{ID: m.Consumer, Vault: m.Vault.URL, Key: m.Key, From: m.From,
			NewVault: m.NewVault.URL, NewKey: m.NewKey, Version: m.Version})
	}
}
