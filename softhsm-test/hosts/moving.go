package main

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	lived   = "lived-under"
	account = "/subscriptions/" + arm.Subscription +
		"/resourceGroups/emulator/providers/Microsoft.CognitiveServices/accounts/ai"
)

// moving is that of a consumer, which is set to one version, to the newest one.
var moving = act{
	points: []string{
		"save-before repointing intended", "save-after repointing intended", "repoint-before", "repoint-after",
		"save-before consumer repointed", "save-after consumer repointed",
	},
	prepare: (*world).addConsumer,
	begin:   (*world).leaveBehind,
	undone: func(w *world, s status.Snapshot) string {
		all := w.versions(lived)
		k, _ := s.Key(lived)
		newest, c := all[len(all)-1].ID, w.reading(account)
		if !strings.HasSuffix(c.InUse, "/"+newest) || len(c.Lost) > 0 || c.Read == 0 {
			return "the consumer uses " + c.InUse + ", and not " + newest + " " + k.Waiting
		}
		return ""
	},
	once:   func(c emulator.RequestLog) bool { return c.Operation == "resource" && c.Method == http.MethodPatch },
	result: chain.Repointed,
	of:     "consumer",

	unsure: []string{"save-after repointing intended", "repoint-before"},
	waits: func(s status.Snapshot) bool {
		k, _ := s.Key(lived)
		return strings.Contains(k.Waiting, "keyd moves consumer")
	},
	settle: time.Hour, // more than a service takes to show a move
	again:  (*world).moveAgain,
}

// addConsumer makes the key and the consumer, unless they are there.
func (w *world) addConsumer() error {
	const alone = "vaults: [weu]"
	if w.policies[lived] != "" {
		return nil
	}
	if err := w.add(lived, alone); err != nil {
		return err
	}
	spec, err := arm.ParseSpec("ai=ai,key=" + actURL + "/keys/" + lived + "/" + w.versions(lived)[0].ID)
	if err != nil {
		return err
	}
	azure := w.azure.Consumers()
	return errors.Join(azure.Make(w.ctx, spec), azure.Write(w.ctx, "ai", []byte("an answer")),
		w.setPolicy(lived, alone+", consumers: [{id: "+account+", follow: keyd}]"))
}

// leaveBehind rotates the key. The leader looks at its consumers a minute later.
func (w *world) leaveBehind() error {
	if err := w.rotate(lived); err != nil {
		return err
	}
	if err := w.eventually("the key has rotated", func() bool {
		l, s := w.leader()
		return l != nil && w.undone(s) == "" || !w.armed()
	}); err != nil {
		return err
	}
	return w.pass(time.Minute)
}

// moveAgain has an operator ask for the move that keyd gave up.
func (w *world) moveAgain() error {
	l, err := w.awaitLeader()
	if err != nil {
		return err
	}
	return errors.Join(w.awaitEvent(l, "repointing failed", lived), w.ask("repoint", lived))
}
