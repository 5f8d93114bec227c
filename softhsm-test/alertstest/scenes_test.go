//go:build alerts

package alertstest

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func documentedConfiguration(t *testing.T, w *world) {
	for _, c := range [][]string{
		{"promtool", "check", "config", w.path("prometheus.yml")}, // and the rules that it names
		{"amtool", "check-config", w.path("alertmanager.yml")},
	} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(c, " "), err, out)
		}
	}
}

func scraped(t *testing.T, w *world) {
	w.watch(t)
	w.has(t, `up{job="keyd"} == 1`, 1)
	w.has(t, `keyd_ready == 1`, 1)
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	eventually(t, "every rule is evaluated", func() error {
		body, err := get("http://" + w.prometheus + "/api/v1/rules?type=alert")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		var names []string
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.Health != "ok" {
					return fmt.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
				}
				names = append(names, r.Name)
			}
		}
		if want := alertNames(t); !slices.Equal(names, want) {
			return fmt.Errorf("the rules are %v, want %v", names, want)
		}
		return nil
	})
}

// has waits until an expression has n series.
func (w *world) has(t *testing.T, expr string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has %d series", expr, n), func() error {
		found, err := w.query(expr)
		if err == nil && len(found) != n {
			err = fmt.Errorf("it has %v", found)
		}
		return err
	})
}

func quiet(t *testing.T, w *world) {
	w.has(t, `keyd_key_generation == 1`, keys)
	w.has(t, `keyd_proof_oldest_success_timestamp_seconds{age="newest"}`, 2)
	w.has(t, `keyd_proof_last_result`, 0)
	// Not even a pending alert, for three evaluations.
	w.has(t, `max_over_time((count(ALERTS) or vector(0))[3s:1s]) == 0`, 1)
}

func unwrapFails(t *testing.T, w *world) {
	w.onePage(t, cause{receiver: "/on-call", alert: "KeydUnwrapFailing", labels: map[string]string{"vault": vaultName}},
		func() {
			w.azure(t, "op=unwrap,host="+vaultHost+",status=403,code=Forbidden,inner=KeyOperationForbidden")
		})
	labels := map[string]string{"alertname": "KeydUnwrapFailing", "severity": "critical", "job": "keyd",
		"instance": w.web, "key": keyName, "vault": vaultName, "age": "newest", "certain": "yes",
		"reason": "KeyOperationForbidden"}
	wantAlert(t, w.hook.wait(t, "/on-call", "firing", labels), labels, keyName, vaultName)
}

// wantRunbook requires that the daemon serves the section that an alert links to,
// with its four parts.
func (w *world) wantRunbook(t *testing.T, a alert, anchor string) {
	t.Helper()
	link := a.Annotations["runbook_url"]
	if !strings.HasSuffix(link, "/docs/runbooks.md#"+anchor) {
		t.Errorf("runbook_url is %s, want #%s", link, anchor)
	}
	page, err := get("http://" + w.web + "/runbooks")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(page), `id="`+anchor+`"`)
	if !ok {
		t.Fatalf("keyd serves no runbook #%s", anchor)
	}
	section = regexp.MustCompile(`(?s)<section id=.*`).ReplaceAllString(section, "")
	for _, part := range []string{"Means", "Look at", "Do", "Wake someone"} {
		if !strings.Contains(section, part) {
			t.Errorf("the runbook that keyd serves at #%s has no %q", anchor, part)
		}
	}
}

func unwrapWorksAgain(t *testing.T, w *world) {
	w.azure(t, "")
	w.hook.wait(t, "/on-call", "resolved",
		map[string]string{"alertname": "KeydUnwrapFailing", "vault": vaultName, "age": "newest"})
}

func rotationFails(t *testing.T, w *world) {
	w.azure(t, "op=import,host="+hsmHost+",status=403,code=Forbidden,inner=ForbiddenByRbac")
	w.cli(t, "rotate", "--now", keyName, "--no-wait", "--reason", "alerts test")
	labels := map[string]string{"alertname": "KeydRotationFailing", "severity": "warning", "job": "keyd",
		"instance": w.web, "key": keyName, "vault": hsmName}
	a := w.hook.wait(t, "/today", "firing", labels)
	wantAlert(t, a, labels, keyName, hsmName)
	w.wantRunbook(t, a, "keydrotationfailing")
	w.askDashboard(t)
}

func rotationFinishes(t *testing.T, w *world) {
	w.azure(t, "")
	w.hook.wait(t, "/today", "resolved", map[string]string{"alertname": "KeydRotationFailing", "key": keyName})
	w.has(t, `keyd_key_generation == 2`, 1)
}

func daemonGone(t *testing.T, w *world) {
	w.keyd.stop(t, syscall.SIGTERM)
	labels := map[string]string{"alertname": "KeydDown", "severity": "critical", "job": "keyd", "instance": w.web}
	wantAlert(t, w.hook.wait(t, "/on-call", "firing", labels), labels, "keyd")
}

func daemonBack(t *testing.T, w *world) {
	began := time.Now()
	w.startKeyd(t)
	w.hook.wait(t, "/on-call", "resolved", map[string]string{"alertname": "KeydDown", "instance": w.web})
	t.Logf("resolved %s after the start", time.Since(began).Round(time.Second))
}
