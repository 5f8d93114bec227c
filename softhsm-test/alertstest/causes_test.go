//go:build alerts

package alertstest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// cause is a fault, the one alert that tells of it, and the alerts that fire besides and that nobody is told of.
type cause struct {
	receiver, alert string
	labels          map[string]string
	followers       []string
}

// onePage requires that a fault, with forty keys, becomes one notification: that of its cause, although what follows
// from it fires, too.
func (w *world) onePage(t *testing.T, c cause, fault func()) {
	t.Helper()
	w.noAlerts(t)
	before := w.hook.count()
	fault()
	labels := map[string]string{"alertname": c.alert}
	for name, value := range c.labels {
		labels[name] = value
	}
	w.hook.wait(t, c.receiver, "firing", labels)
	for _, follower := range c.followers {
		eventually(t, follower+" fires and is inhibited", func() error { return w.inhibited(follower) })
	}
	pages := w.hook.pages(before)
	if want := []string{c.receiver + " " + c.alert}; !slices.Equal(pages, want) {
		t.Errorf("the pages are %q, want %q", pages, want)
	}
	w.wantRunbook(t, w.hook.wait(t, c.receiver, "firing", labels), strings.ToLower(c.alert))
}

// noAlerts waits until nothing is wrong.
func (w *world) noAlerts(t *testing.T) {
	t.Helper()
	w.has(t, `(count(ALERTS) or vector(0)) == 0`, 1)
	eventually(t, "Alertmanager has no alert", func() error {
		all, err := w.alerts()
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("it has %v", all)
		}
		return err
	})
}

// known is one alert that Alertmanager knows.
type known struct {
	Labels map[string]string
	Status struct {
		State       string
		InhibitedBy []string
	}
}

func (w *world) alerts() (all []known, err error) {
	body, err := get("http://" + w.alertmanager + "/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(body, &all)
}

// inhibited fails unless Alertmanager has an alert of this name, and tells nobody of any.
func (w *world) inhibited(name string) error {
	all, err := w.alerts()
	if err != nil {
		return err
	}
	found := 0
	for _, a := range all {
		if a.Labels["alertname"] != name {
			continue
		}
		if found++; a.Status.State != "suppressed" {
			return fmt.Errorf("%v is %s", a.Labels, a.Status.State)
		}
	}
	if found == 0 {
		return fmt.Errorf("Alertmanager does not have it, but %v", all)
	}
	return nil
}

func hsmStopped(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/today", alert: "KeydHSMDown", followers: []string{"KeydVersionsUnproven"}},
		func() { w.hsm.stop(t, syscall.SIGTERM) })
	w.has(t, `keyd_proof_last_result{certain="no", reason="HSM", age="newest"} == 0`, 2*keys)
	text := w.cli(t, "status")
	if n := strings.Count(text, "→"); n != 1 || !strings.Contains(text, "80 versions could not be proven meanwhile") {
		t.Errorf("keyd status shows %d problems, want one that counts the versions:\n%s", n, text)
	}
	w.startHSM(t)
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydHSMDown"})
}

func vaultForbids(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/today", alert: "KeydVaultUnreachable", labels: map[string]string{"vault": vaultName},
		followers: []string{"KeydVersionsUnproven"}},
		func() { w.azure(t, "host="+vaultHost+",status=403,code=Forbidden,inner=ForbiddenByFirewall") })
	w.azure(t, "")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydVaultUnreachable", "vault": vaultName})
}

// noToken changes the client id, too: the SDK still has tokens for the one before.
func noToken(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/today", alert: "KeydSignInFailing", labels: map[string]string{"audience": "vaults"},
		followers: []string{"KeydVaultUnreachable", "KeydVersionsUnproven"}},
		func() {
			w.azure(t, "op=token,status=400")
			w.write(t, "keyd.yaml", strings.Replace(read(t, w.path("keyd.yaml")), "credential: managed-identity",
				"credential: managed-identity, client_id: 33333333-3333-3333-3333-333333333333", 1))
			w.cli(t, "reload")
		})
	w.has(t, `keyd_vault_up == 0`, 2)
	text := w.cli(t, "status")
	if n := strings.Count(text, "→"); n != 1 || !strings.Contains(text, "2 vaults cannot be used meanwhile; 80 ") {
		t.Errorf("keyd status shows %d problems, want one that counts the vaults and the versions:\n%s", n, text)
	}
	w.azure(t, "")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydSignInFailing"})
}

func unwrapForbidden(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/today", alert: "KeydVersionsUnproven",
		labels: map[string]string{"vault": vaultName, "reason": "ForbiddenByRbac"}},
		func() { w.azure(t, "op=unwrap,host="+vaultHost+",status=403,code=Forbidden,inner=ForbiddenByRbac") })
	w.azure(t, "")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydVersionsUnproven", "vault": vaultName})
}

func keyDeleted(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/on-call", alert: "KeydKeyDeleted",
		labels:    map[string]string{"key": keyName, "vault": vaultName},
		followers: []string{"KeydKeyOnHold", "KeydUnwrapFailing"}},
		func() { w.meddle(t, vaultHost, "DeleteKey") })
	w.askDashboard(t)
}

func keyRecovered(t *testing.T, w *world) {
	w.meddle(t, vaultHost, "RecoverKey")
	w.hook.wait(t, "/on-call", "resolved", map[string]string{"alertname": "KeydKeyDeleted", "vault": vaultName})
	labels := map[string]string{"alertname": "KeydKeyOnHold", "severity": "warning", "job": "keyd", "instance": w.web,
		"key": keyName, "vault": vaultName, "code": "key-deleted"}
	a := w.hook.wait(t, "/today", "firing", labels) // what is left for a person to do
	wantAlert(t, a, labels, keyName, vaultName)
	w.wantRunbook(t, a, "hold-key-deleted")
	w.cli(t, "resume", keyName, "--reason", "recovered after deletion")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydKeyOnHold", "key": keyName})
}
