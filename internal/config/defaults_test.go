package config_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/key"
)

// withDefaults is base with a section defaults and these keys.
func withDefaults(defaults, keys string) string {
	head, _, _ := strings.Cut(base, "keys:\n")
	return head + "defaults:\n" + defaults + "keys:\n" + keys
}

func TestKeysTakeTheDefaultsAndOverrideThem(t *testing.T) {
	c := mustLoad(t, withDefaults(`  vaults: [weu, mhsm]
  schedule: "@every 90d"
  spec: RSA-3072
  retire: {disable_after: 400d}
  consumers: none
  expires_after: 150d
  labels: [prod]
`, `  plain: {}
  other:
    vaults: [weu]
    schedule: never
    spec: RSA-2048
    retire: never
    expires_after: never
    labels: [test, eu]
`))
	other, plain := c.Policies[0], c.Policies[1]
	if len(plain.Vaults) != 2 || plain.ScheduleText != "@every 90d" || plain.Spec != key.RSA3072 ||
		plain.Retire.DisableAfter != 400*24*time.Hour || plain.ExpiresAfter != 150*24*time.Hour ||
		!slices.Equal(plain.Labels, []string{"prod"}) {
		t.Errorf("the key without fields: %+v", plain)
	}
	if len(other.Vaults) != 1 || other.Schedule != nil || other.ScheduleText != "" || other.Spec != key.RSA2048 ||
		!other.Retire.Never() || other.ExpiresAfter != 0 || !slices.Equal(other.Labels, []string{"test", "eu"}) {
		t.Errorf("the key that overrides all: %+v", other)
	}
}

func TestAKeyOfKeysDTakesTheDefaultsToo(t *testing.T) {
	c, ps := load(t, map[string]string{
		"keyd.yaml":     withDefaults("  vaults: [weu]\n", "  {}\n"),
		"keys.d/a.yaml": "keys:\n  a: {}\n",
	})
	if ps != nil {
		t.Fatal(ps)
	}
	if len(c.Policies) != 1 || len(c.Policies[0].Vaults) != 1 {
		t.Errorf("policies %+v", c.Policies)
	}
}

// wantProblems loads a configuration that has exactly these mistakes.
func wantProblems(t *testing.T, text string, want ...string) {
	t.Helper()
	_, ps := load(t, map[string]string{"keyd.yaml": text})
	if diff := cmp.Diff(strings.Join(want, "\n"), ps.Error()); diff != "" {
		t.Error("-want +got\n" + diff)
	}
}

func TestAMistakeInTheDefaultsIsReportedOnce(t *testing.T) {
	wantProblems(t, withDefaults(`  vaults: [weu, nowhere]
  spec: RSA-1024
  spares: 9
  schedul: x
`, "  a: {}\n  b: {}\n  c: {spares: 1}\n"),
		"keyd.yaml:12:17: defaults.vaults: unknown vault nowhere; write one of mhsm, weu",
		`keyd.yaml:13:9: defaults.spec: unknown spec "RSA-1024"; write one of RSA-2048, RSA-3072, RSA-4096`,
		`keyd.yaml:14:11: defaults.spares: "9" is not such a number; write a number from 0 to 5`,
		"keyd.yaml:15:3: unknown field defaults.schedul; did you mean schedule?",
	)
}

func TestAWrongDefaultIsAMistakeEvenIfNoKeyTakesIt(t *testing.T) {
	wantProblems(t, withDefaults("  spares: 9\n", "  {}\n"),
		`keyd.yaml:12:11: defaults.spares: "9" is not such a number; write a number from 0 to 5`)
}

func TestAKeyThatDoesNotFitTheDefaultsIsNamed(t *testing.T) {
	wantProblems(t, withDefaults(`  vaults: [weu]
  schedule: "@every 12h"
  expires_after: 150d
`, `  fast: {floor: 1d}
  signer: {operations: [sign, verify]}
  fits: {}
`),
		"keyd.yaml:16:17: keys.fast.schedule: it fires 12h apart, and the floor is 1d; "+
			"write a schedule that fires less often, or a floor of 12h or less",
		"keyd.yaml:17:24: keys.signer.expires_after: the key signs, and keyd cannot prove an expired version; "+
			"write expires_after: never for the key",
	)
}

func TestDefaultsThatDoNotFitEachOtherAreOneMistake(t *testing.T) {
	wantProblems(t, withDefaults("  vaults: [weu]\n  window: 1h\n  spread: 2h\n", "  a: {}\n  b: {}\n"),
		"keyd.yaml:14:11: defaults.spread: 2h is not shorter than the window of 1h; "+
			"write a spread shorter than the window")
}

func TestExpiryFromTheDefaultsNeedsASchedule(t *testing.T) {
	wantProblems(
		t,
		withDefaults("  vaults: [weu]\n  schedule: \"@monthly\"\n  expires_after: 150d\n",
			"  a: {schedule: never}\n  b: {}\n"),
		"keyd.yaml:16:17: keys.a.expires_after: the key has no schedule, so nothing would replace a version before it "+
			"expires; then nobody could wrap with it; write a schedule, or write expires_after: never for the key",
	)
}

func TestEverySettingSaysWhereItCameFrom(t *testing.T) {
	c, err := config.LoadToShow(write(t, map[string]string{"keyd.yaml": withDefaults(`  schedule: "@monthly"
  retire:
    disable_after: 400d
  consumers: none
`, "  cmk: {vaults: [weu, mhsm], floor: 2h}\n")}))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	dir := filepath.Dir(c.Files[0]) + "/"
	for _, s := range c.Settings() {
		if _, twice := got[s.Field]; twice {
			t.Errorf("%s is listed twice", s.Field)
		}
		got[s.Field] = s.Value + " | " + strings.Replace(s.Origin(), dir, "", 1)
	}
	for field, want := range map[string]string{
		"instance":            "hq-1 | keyd.yaml:1",
		"state_dir":           "/var/lib/keyd | built in",
		"hsm.token":           "keyd | keyd.yaml:4",
		"hsm.call_timeout":    "30s | built in",
		"log.level":           "info | built in",
		"control.operators":   " | built in",
		"vaults.weu.url":      "https://contoso-weu.vault.azure.net | keyd.yaml:8",
		"keys.cmk.vaults":     "[weu, mhsm] | keyd.yaml:17",
		"keys.cmk.schedule":   "@monthly | defaults, keyd.yaml:12",
		"keys.cmk.retire":     "{disable_after: 400d} | defaults, keyd.yaml:13",
		"keys.cmk.consumers":  "none | defaults, keyd.yaml:15",
		"keys.cmk.floor":      "2h | keyd.yaml:17",
		"keys.cmk.budget":     "10 | built in",
		"keys.cmk.labels":     " | built in",
		"keys.cmk.spec":       "RSA-4096 | built in",
		"vaults.mhsm.share":   "0.5 | built in",
		"health.newest":       "5m | built in",
		"keys.cmk.operations": "[wrapKey, unwrapKey] | built in",
	} {
		if got[field] != want {
			t.Errorf("%s: %q, want %q", field, got[field], want)
		}
	}
	for field := range got {
		if strings.HasPrefix(field, "defaults") || strings.HasPrefix(field, "keys.cmk.retire.") {
			t.Errorf("%s is no setting of its own", field)
		}
	}
}

func TestADaemonKeepsNoSettingsOfKeys(t *testing.T) {
	for _, s := range mustLoad(t, base).Settings() {
		if strings.HasPrefix(s.Field, "keys.") {
			t.Errorf("it keeps %s", s.Field)
		}
	}
}

func TestAMistakeFoundLaterPointsToItsField(t *testing.T) {
	c := mustLoad(t, base)
	p := c.Mistake("hsm.module", "write another", "hsm.module: none")
	if p.Line != 3 || p.Column != 11 {
		t.Errorf("the mistake is at %s", p)
	}
	p = c.Mistake("web.web_config_file", "write it", "there is none")
	if want := (config.Problem{File: c.Files[0], Message: "there is none", Remedy: "write it"}); p != want {
		t.Errorf("a mistake of a field that is absent: %+v", p)
	}
}
