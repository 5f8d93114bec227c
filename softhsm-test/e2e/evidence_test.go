package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/store/bolt"
)

func TestTheDaemonReadsTheVaultsLogAndKeepsALedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.configure()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const url = "url: https://" + vaultHost
	w.write("keyd.yaml", strings.Replace(string(text), url,
		url+"\n    evidence: {workspace: "+emulator.DefaultWorkspaceID+"}", 1))
	w.start()
	w.waitGeneration(1) // its proof tells keyd under which identity it calls the vault
	w.must("reload")    // and after a reload keyd looks
	const tables = 2
	err = poll(patience, func() bool { return w.requests("logs") >= tables }, w.daemon.ended)
	if err != nil {
		t.Fatalf("keyd got %d answers of Log Analytics: %v\n%s", w.requests("logs"), err, w.daemon.log)
	}
	for _, r := range w.emu.Requests() {
		if (r.Operation == "wrap" || r.Operation == "unwrap") && r.ClientRequestID == "" {
			t.Errorf("a call of keyd's that uses the key has no id: %+v", r)
		}
	}
	w.stop()
	s, err := bolt.OpenReadOnly(filepath.Join(w.path("state"), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if blob, err := s.LoadLedger(t.Context(), "https://"+vaultHost); err != nil || blob == nil {
		t.Errorf("the ledger of the vault has %d bytes, %v", len(blob), err)
	}
}
