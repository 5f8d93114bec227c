package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

// make makes a consumer of the key in the emulator, such as disk=des-1.
func (w *world) makeConsumer(name string) {
	w.t.Helper()
	spec, err := arm.ParseSpec(fmt.Sprintf("%s,key=https://%s/keys/%s", name, vaultHost, keyName))
	if err == nil {
		err = w.emu.Consumers().Make(w.t.Context(), spec)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestKeydShowsWhoUsesAKeyAndWhatTheConfigurationLacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	w.waitGeneration(1)
	w.makeConsumer("cosmos=cosmos-1")
	w.makeConsumer("disk=des-1")
	const cosmos, disk = resources + "Microsoft.DocumentDB/databaseAccounts/cosmos-1",
		resources + "Microsoft.Compute/diskEncryptionSets/des-1"
	w.consume(cosmos)
	w.must("reload")
	w.waitAsked(1)
	shown := func(args ...string) (of status.KeyConsumers) {
		t.Helper()
		text := w.must(append([]string{"consumers", keyName, "--json"}, args...)...)
		if err := json.Unmarshal([]byte(text), &of); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return of
	}
	var last status.KeyConsumers
	if err := poll(patience, func() bool {
		last = shown()
		return len(last.List) == 1
	}, w.daemon.ended); err != nil {
		t.Fatalf("%v: %+v", err, last)
	}
	if c := last.List[0]; c.ID != cosmos || !c.Newest || c.Generation != 1 || c.Moves != status.MovesItself ||
		len(c.InTheWay) > 0 {
		t.Errorf("%+v", c)
	}
	found := shown("--discover")
	if len(found.List) != 2 || len(found.Add) != 1 || found.Add[0] != disk || len(found.Unseen) > 0 {
		t.Errorf("a search finds %+v, and proposes %q; it did not see %q", found.List, found.Add, found.Unseen)
	}
	if again := shown(); len(again.List) != 1 {
		t.Errorf("keyd kept what somebody searched for: %+v", again.List)
	}
	if text := w.must("status", keyName); !strings.Contains(text, "CONSUMERS: 1 consumer, seen") {
		t.Errorf("status of the key does not show its consumer:\n%s", text)
	}
	if n := w.metric(`keyd_consumers{service="Cosmos DB account",state="newest"}`); n != 1 {
		t.Errorf("the metric counts %v", n)
	}
}
