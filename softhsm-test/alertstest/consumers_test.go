//go:build alerts

package alertstest

import "testing"

// The emulator's consumers: one is set to the version that was newest when it was made, the other follows by itself.
const (
	pinnedName = "ai-1"
	resources  = "/subscriptions/00000000-0000-4000-8000-000000000000/resourceGroups/emulator/providers/"
	pinned     = resources + "Microsoft.CognitiveServices/accounts/" + pinnedName
	following  = resources + "Microsoft.DocumentDB/databaseAccounts/cosmos-1"
)

// consumersUnseen names the consumers of two keys in the configuration, while Resource Manager refuses keyd.
func consumersUnseen(t *testing.T, w *world) {
	labels := map[string]string{"reason": "Forbidden"}
	w.onePage(t, cause{receiver: "/today", alert: "KeydConsumerUnseen", labels: labels}, func() {
		w.azure(t, "op=resource,status=403,code=AuthorizationFailed")
		w.configure(t, map[string]string{keyName: pinned, "app-01": following})
		w.cli(t, "reload")
	})
	w.askDashboard(t)
	w.azure(t, "")
	w.cli(t, "reload") // it looks at once
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydConsumerUnseen", "reason": "Forbidden"})
	w.has(t, `keyd_consumers{state="newest"} == 1`, 2)
}

// consumerLags follows a rotation: the pinned consumer uses the generation before.
func consumerLags(t *testing.T, w *world) {
	labels := map[string]string{"alertname": "KeydConsumerLags", "severity": "warning", "job": "keyd",
		"instance": w.web, "key": keyName, "vault": vaultName, "consumer": pinned, "moves": "person"}
	a := w.hook.wait(t, "/today", "firing", labels)
	wantAlert(t, a, labels, keyName, vaultName)
	w.wantRunbook(t, a, "keydconsumerlags")
	w.askDashboard(t)
}

// consumersGone takes the consumers out of the configuration.
func consumersGone(t *testing.T, w *world) {
	w.configure(t, nil)
	w.cli(t, "reload")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydConsumerLags", "consumer": pinned})
}
