package e2e_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

// consumedBy puts a consumer under the key in the configuration.
func (w *world) consumedBy(id string) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	const before = "    floor: 0s\n"
	w.write("keyd.yaml", strings.Replace(string(text), before, before+"    consumers: ["+id+"]\n", 1))
	w.must("reload")
}

func TestACheckGoesThroughTheSetUpOfAConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) { s.consumerSpeed = aDayPerSecond })
	w.start()
	w.waitGeneration(1)
	spec, err := arm.ParseSpec("storage=stcmkdemo,key=" + w.vault["weu"].URL() + "/keys/" + keyName)
	if err == nil {
		err = w.emu.Consumers().Make(t.Context(), spec)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.consumedBy(w.emu.Consumers().ReadEverything(t.Context()).Consumers[0].ID)
	const consumer, rights = "storage account stcmkdemo", "rights on the key"
	lines, code := w.check()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	w.wantLine(lines, "consumer", "weu", "kind of vault", status.CheckOK, "Premium")
	w.wantLine(lines, "consumer", "weu", "soft delete and purge protection", status.CheckOK, "on")
	w.wantLine(lines, "consumer", consumer, "set to the key", status.CheckOK, "follows")
	w.wantLine(lines, "consumer", consumer, "way into the vault", status.CheckOK)
	w.wantLine(lines, "consumer", consumer, "tenant and region", status.CheckOK)
	w.wantLine(lines, "consumer", consumer, rights, status.CheckFailed, "Microsoft.KeyVault/vaults/keys/wrap/action",
		"az role assignment create", "/keys/"+keyName)

	// The command in the remedy names the identity and the scope.
	remedy := strings.Fields(w.find(lines, "consumer", consumer, rights).Remedy)
	after := func(flag string) string {
		for i, word := range remedy {
			if word == flag {
				return strings.Trim(remedy[i+1], `"`)
			}
		}
		t.Fatalf("no %s in %q", flag, remedy)
		return ""
	}
	if err := w.emu.Consumers().Assign(arm.RoleAssignment{Principal: after("--assignee-object-id"),
		Role: "Key Vault Crypto Service Encryption User", Scope: after("--scope")}); err != nil {
		t.Fatal(err)
	}
	w.vault["weu"].SetFirewall(&emulator.Firewall{TrustedServices: true})
	lines, _ = w.check()
	w.wantLine(lines, "consumer", consumer, rights, status.CheckOK, "Key Vault Crypto Service Encryption User")
	w.wantLine(lines, "consumer", consumer, "way into the vault", status.CheckOK, "trusted")
	for _, r := range w.emu.Requests() {
		if r.Operation == "resource" && r.Method != "GET" {
			t.Errorf("keyd sends %s %s", r.Method, r.Path)
		}
	}
}
