package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// resources is where the emulator's consumers are.
const resources = "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/emulator/providers/"

// consume names consumers of the key in the configuration.
func (w *world) consume(ids ...string) {
	w.t.Helper()
	w.configure()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	const before = "    floor: 0s\n"
	list := "    consumers:\n"
	for _, id := range ids {
		list += "      - " + id + "\n"
	}
	w.write("keyd.yaml", strings.Replace(string(text), before, list+before, 1))
}

// waitAsked waits until keyd asked Resource Manager so often, and got an answer.
func (w *world) waitAsked(n int) {
	w.t.Helper()
	if err := poll(patience, func() bool { return w.requests("resource") == n }, w.daemon.ended); err != nil {
		w.t.Fatalf("keyd got %d answers of Resource Manager, want %d: %v", w.requests("resource"), n, err)
	}
}

func TestTheDaemonAsksConsumersAtItsStartAndAfterAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	w.waitGeneration(1)
	for _, name := range []string{"disk=des-1", "cosmos=cosmos-1"} {
		spec, err := arm.ParseSpec(fmt.Sprintf("%s,key=https://%s/keys/%s", name, vaultHost, keyName))
		if err == nil {
			err = w.emu.Consumers().Make(t.Context(), spec)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.consume(resources + "Microsoft.Compute/diskEncryptionSets/des-1")
	w.must("reload")
	w.waitAsked(1)
	w.stop()
	w.consume(resources+"Microsoft.Compute/diskEncryptionSets/des-1",
		resources+"Microsoft.DocumentDB/databaseAccounts/cosmos-1")
	w.start()
	w.waitAsked(3)
	if log := w.daemon.log.String(); strings.Contains(log, "keyd does not see") {
		t.Errorf("keyd does not see its consumers:\n%s", log)
	}
	w.consume(resources + "Microsoft.DocumentDB/databaseAccounts/gone")
	w.must("reload")
	const said = "HTTP 404 ResourceNotFound"
	if err := poll(patience, func() bool { return strings.Contains(w.daemon.log.String(), said) },
		w.daemon.ended); err != nil {
		t.Errorf("the log does not say %q: %v", said, err)
	}
}
