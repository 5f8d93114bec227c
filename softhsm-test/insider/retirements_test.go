package insider_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// account is a consumer that the configuration names.
const account = "/subscriptions/2f6d1c7a-90b4-4e38-8a5d-1be7c3f40962/resourceGroups/rg/providers/" +
	"Microsoft.Storage/storageAccounts/stcmk"

// retirements are attacks by somebody who writes the configuration and wants old versions disabled, although no
// operator consented to that. internal/rotate has the attacks that need days to pass.
func retirements() []attack {
	return []attack{
		{"a retire rule that nobody consented to", func(w *world) string {
			return w.consented("consumers: none, retire: {disable_after: 1d}", func() {})
		}},
		{"the consent to a retire rule, for a shorter one", func(w *world) string {
			return w.consented("consumers: none, retire: {disable_after: 400d}", func() {
				w.keyd("retire", "one", "--yes", "--reason", "as shown")
				w.retiring("consumers: none, retire: {disable_after: 1d}")
			})
		}},
		{"the consent to a retire rule, after the rule was away", func(w *world) string {
			return w.consented("consumers: none, retire: {disable_after: 1d}", func() {
				w.keyd("retire", "one", "--yes", "--reason", "as shown")
				w.retiring("retire: never")
				w.eventually("keyd looked at the key without a rule", func() bool {
					return strings.Contains(w.keyd("audit", "--key", "one"), "consent to the retire rule ended")
				})
				w.retiring("consumers: none, retire: {disable_after: 1d}")
			})
		}},
		{"the consent to a retire rule, for one that waits for no consumer", func(w *world) string {
			return w.consented("consumers: ["+account+"], retire: {disable_after: 1d}", func() {
				w.keyd("retire", "one", "--yes", "--reason", "as shown")
				w.retiring("consumers: none, retire: {disable_after: 1d}")
			})
		}},
		{"another key's version, enabled again", func(w *world) string {
			return w.enabled(func(version string) error {
				return control.Dial(w.path("keyd.sock")).Enable(w.Context(), "one", version, "it is needed")
			})
		}},
		{"a version enabled again without a reason", func(w *world) string {
			return w.enabled(func(version string) error {
				return control.Dial(w.path("keyd.sock")).Enable(w.Context(), "two", version, "")
			})
		}},
	}
}

// enabled disables the older version of key two, does what the attacker does with it, and says whether it is enabled.
// Then an operator enables it as they may.
func (w *world) enabled(attack func(version string) error) string {
	w.Helper()
	vault := w.emu.Vault(firstHost)
	version := vault.Versions("two")[0].ID
	if err := vault.SetEnabled("two", version, false); err != nil {
		w.Fatal(err)
	}
	defer w.keyd("enable", "two", version, "--reason", "it was disabled for the attack")
	err := attack(version)
	switch {
	case vault.Versions("two")[0].Enabled:
		return "an enabled version"
	case !errors.As(err, new(*control.RefusedError)) && !errors.As(err, new(*control.UsageError)):
		return fmt.Sprintf("an answer that is not a refusal: %v", err)
	}
	return ""
}

// consented gives a key a retire rule, then does what the attacker does, and says whether keyd now takes an operator to
// have consented.
func (w *world) consented(rule string, attack func()) string {
	w.Helper()
	defer func() { w.retiring("retire: never") }()
	w.retiring(rule)
	attack()
	var r status.Retirement
	w.read(&r, "retire", "one", "--json")
	if r.Never {
		w.Fatalf("the key has no retire rule: %+v", r)
	}
	if r.Consented {
		return fmt.Sprintf("a consent: %+v", r)
	}
	return ""
}

// retiring has keyd take over another retire rule of a key.
func (w *world) retiring(rule string) {
	w.Helper()
	w.configure(strings.Replace(w.standard(), "vaults: [weu]", "vaults: [weu], "+rule, 1))
	w.keyd("reload")
}
