package prometheus_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unwatched are the metrics that no alert watches, with the reason.
func unwatched() map[string]string {
	return map[string]string{
		"keyd_build_info":                                   "shows versions",
		"keyd_proposals":                                    "the oldest is what can be late",
		"keyd_leader_epoch":                                 "shows who leads",
		"keyd_leader_since_timestamp_seconds":               "a new leader is no trouble",
		"keyd_leader_lease_timestamp_seconds":               "keyd_leaderless_since_timestamp_seconds shows it",
		"keyd_config_last_reload_success_timestamp_seconds": "keyd_config_last_reload_successful shows a refused one",
		"keyd_key_last_rotation_timestamp_seconds":          "the next one is what can be late",
		"keyd_rotations_total":                              "one that failed is a hold",
		"keyd_steps_total":                                  "keyd_step_failures shows failures in a row",
		"keyd_step_duration_seconds":                        "a slow step that fails shows at its key",
		"keyd_placements": "a refuted one is a hold, a missing one is " +
			"keyd_key_partial",
		"keyd_proofs_total":                      "keyd_proof_last_result has the hysteresis",
		"keyd_proof_configured_interval_seconds": "the expected interval is what keyd keeps to",
		"keyd_key_proven_timestamp_seconds":      "keyd_proof_last_success_timestamp_seconds names a late version",
		"keyd_proof_oldest_success_timestamp_seconds": "keyd_proof_last_success_timestamp_seconds names the " +
			"version that is late",
		"keyd_proof_duration_seconds":            "a proof that is too slow does not pass",
		"keyd_vault_last_seen_timestamp_seconds": "keyd_vault_up shows it",
		"keyd_vault_request_duration_seconds":    "a request that is too slow fails",
		"keyd_consumers":                         "those that need somebody have series of their own",
		"keyd_consumer_requests_total":           "a consumer that cannot be seen shows at its key",
		"keyd_consumer_throttled_total":          "keyd waits; a consumer that cannot be seen shows at its key",
		"keyd_hsm_call_duration_seconds":         "a call that is too slow stops the HSM side",
		"keyd_audit_signed_entries":              "the checkpoint's time shows a missing one",
		"keyd_audit_checkpoint_failures_total": "keyd retries after a failure; the last checkpoint's time shows " +
			"lasting failures",
		"keyd_store_writes_total":                "keyd_store_healthy shows failed ones; keyd retries after a conflict",
		"keyd_store_write_duration_seconds":      "a slow disk harms nothing",
		"keyd_control_requests_total":            "the caller gets the result",
		"keyd_control_connections":               "is bounded",
		"keyd_control_connections_dropped_total": "affects only the user with too many",
	}
}

func TestEveryMetricHasAnAlertOrAReasonForNone(t *testing.T) {
	watched := map[string]bool{}
	for _, a := range alerts(t) {
		for _, m := range metricsIn(a.Expr) {
			watched[m] = true
		}
	}
	for _, m := range slices.Sorted(maps.Keys(metrics(t))) {
		why, excused := unwatched()[m]
		switch {
		case !watched[m] && !excused:
			t.Errorf("no alert watches %s: add a rule to keyd.rules.yml, or say in unwatched why it needs none", m)
		case watched[m] && excused:
			t.Errorf("an alert watches %s, but unwatched says that it needs none: %s", m, why)
		}
	}
	for m := range unwatched() {
		if _, ok := metrics(t)[m]; !ok {
			t.Errorf("unwatched names %s, and keyd has no such metric", m)
		}
	}
}

func TestEveryHoldAndEveryDriftHasOneAlert(t *testing.T) {
	for _, c := range []struct {
		metric, label string
		values        []string
	}{
		{"keyd_key_held", "code", holdCodes(t)},
		{"keyd_drift", "kind", driftKinds(t)},
	} {
		for _, value := range c.values {
			var by []string
			for _, a := range alerts(t) {
				if selects(t, a.Expr, c.metric, c.label, value) {
					by = append(by, a.Alert)
				}
			}
			if len(by) != 1 {
				t.Errorf("alerts %[4]v watch %[1]s{%[2]s=%[3]q}; exactly one should",
					c.metric, c.label, value, by)
			}
		}
	}
}

func TestEveryStateOfThePINHasOneAlert(t *testing.T) {
	excused := map[string]string{
		"accepted": "it is well",
		"refused":  "keyd_hsm_pin_refused shows it",
		"unknown":  "keyd_hsm_degraded shows why there was no login",
	}
	for _, state := range pinStates(t) {
		var by []string
		for _, a := range alerts(t) {
			if selects(t, a.Expr, "keyd_hsm_pin_state", "state", state) {
				by = append(by, a.Alert)
			}
		}
		if (excused[state] == "") != (len(by) == 1) || len(by) > 1 {
			t.Errorf("keyd_hsm_pin_state{state=%q} is the matter of the alerts %v, and should be that of one "+
				"(excused: %q)", state, by, excused[state])
		}
	}
}

// selects reports whether an expression begins with this metric and a matcher that accepts the value. PromQL anchors
// patterns at both ends.
func selects(t *testing.T, expr, metric, label, value string) bool {
	t.Helper()
	m := regexp.MustCompile(`^` + metric + `\{` + label + `(=|!=|=~|!~)"([^"]*)"\}`).FindStringSubmatch(expr)
	if m == nil {
		return false
	}
	met, err := regexp.MatchString("^(?:"+m[2]+")$", value)
	if err != nil {
		t.Fatal(err)
	}
	return met == (m[1] == "=" || m[1] == "=~")
}

func TestAlertsUseMetricsThatKeydHas(t *testing.T) {
	for _, a := range alerts(t) {
		for _, m := range metricsIn(a.Expr) {
			if _, ok := metrics(t)[m]; !ok {
				t.Errorf("%s: keyd has no metric %s", a.Alert, m)
			}
		}
		for _, kind := range codesIn(a.Expr, "kind") {
			if !slices.Contains(driftKinds(t), kind) {
				t.Errorf("%s: there is no drift of kind %s", a.Alert, kind)
			}
		}
		for _, state := range codesIn(a.Expr, "state") {
			if !slices.Contains(pinStates(t), state) {
				t.Errorf("%s: a PIN has no state %s", a.Alert, state)
			}
		}
		for _, code := range codesIn(a.Expr, "code") {
			if !slices.Contains(holdCodes(t), code) {
				t.Errorf("%s: there is no hold code %s", a.Alert, code)
			}
		}
	}
}

func metricsIn(expr string) []string {
	return regexp.MustCompile(`\bkeyd_[a-z_]+`).FindAllString(expr, -1)
}

func codesIn(expr, label string) []string {
	var out []string
	for _, m := range regexp.MustCompile(label+`[=!~]+"([^"]*)"`).FindAllStringSubmatch(expr, -1) {
		out = append(out, strings.Split(m[1], "|")...)
	}
	return out
}

// metrics returns keyd's metrics, each with its labels, from the tables of docs/metrics.md, which another test
// compares with what the daemon registers.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	row := regexp.MustCompile("(?m)^\\| `(keyd_[a-z_]+)` \\|[^|]*\\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		found[m[1]] = regexp.MustCompile(`[a-z]+`).FindAllString(m[2], -1)
	}
	if len(found) < 30 {
		t.Fatalf("docs/metrics.md lists only %d metrics", len(found))
	}
	return found
}

// holdCodes reads the closed set where it is defined.
func holdCodes(t *testing.T) []string {
	t.Helper()
	return constants(t, "../../internal/key/lifecycle.go", `(?m)^\tHold\w+\s+HoldCode\s+=\s+"([a-z-]+)"`)
}

// driftKinds reads the closed set where it is defined.
func driftKinds(t *testing.T) []string {
	t.Helper()
	return constants(t, "../../internal/plan/drift.go", `(?m)^\tDrift\w+\s+DriftKind\s+=\s+"([a-z-]+)"`)
}

// pinStates reads the closed set where it is defined, in the form of the label's values.
func pinStates(t *testing.T) []string {
	t.Helper()
	states := constants(t, "../../internal/key/seen.go", `(?m)^\tPIN\w+\s+PINState = "([a-z ]+)"`)
	for i := range states {
		states[i] = strings.ReplaceAll(states[i], " ", "-")
	}
	return states
}

func constants(t *testing.T, path, form string) []string {
	t.Helper()
	var out []string
	for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(read(t, path), -1) {
		out = append(out, m[1])
	}
	if len(out) < 7 {
		t.Fatalf("%s defines only %v", path, out)
	}
	return out
}
