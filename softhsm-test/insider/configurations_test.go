package insider_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
)

// configurations are attacks by somebody who gets at the files of the configuration, or waits for a mistake in them.
func configurations() []attack {
	return []attack{
		{"a vault of the attacker's, added to the file without a pin", func(w *world) string {
			with := strings.Replace(w.standard(), "vaults:\n",
				"vaults:\n  theirs: {url: \"https://attacker.vault.azure.net\"}\n", 1)
			return w.under(with, func() string { return w.wrapped(w.one, w.theirs("attacker.vault.azure.net")) })
		}},
		{"a vault of the attacker's, added with trust at first use, and no key that goes there", func(w *world) string {
			with := strings.Replace(w.standard(), "vaults:\n",
				"vaults:\n  theirs: {url: \"https://attacker.vault.azure.net\", kek: {trust: first-use}}\n", 1)
			return w.under(with, func() string { return w.wrapped(w.one, w.theirs("attacker.vault.azure.net")) })
		}},
		{"a wrap while the configuration has a mistake", func(w *world) string {
			return w.under(w.standard()+"mistake: true\n", func() string { return w.wrapped(w.one, w.realKEK()) })
		}},
		{"a pair while the configuration has a mistake", func(w *world) string {
			return w.under(w.standard()+"mistake: true\n", func() string { return w.made("one", 2) })
		}},
		{"a wrap of a key that was taken out of the configuration", func(w *world) string {
			without := strings.Replace(w.standard(), "  one: {spec: RSA-2048, vaults: [weu]}\n", "", 1)
			kek := w.realKEK()
			return w.under(without, func() string { return w.wrapped(w.one, kek) })
		}},
		{"a wrap for the KEK whose pin was taken out of the configuration", func(w *world) string {
			kek := w.realKEK()
			keys := "  one: {spec: RSA-2048, vaults: [weu]}\n  two: {spec: RSA-2048, vaults: [neu]}\n"
			return w.under(w.config("", keys), func() string { return w.wrapped(w.one, kek) })
		}},
		{"an HSM side that starts on a configuration that everybody may write", func(w *world) string {
			return w.starts(func() error { return os.Chmod(w.path("other/keyd.yaml"), 0o666) }, "keyd.yaml")
		}},
		{"an HSM side that starts on a configuration in a folder that everybody may write", func(w *world) string {
			return w.starts(func() error { return os.Chmod(w.path("other"), 0o777) }, "/other")
		}},
	}
}

// starts tries to start an HSM side on a copy of the configuration, after a change of who may write it. The message
// must name what is not safe.
func (w *world) starts(change func() error, names string) string {
	w.Helper()
	if err := os.MkdirAll(w.path("other"), 0o700); err != nil {
		w.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(w.path("other")) }()
	w.write("other/keyd.yaml", strings.ReplaceAll(w.standard(), w.dir+"/hsm", w.dir+"/other-hsm"))
	if err := change(); err != nil {
		w.Fatal(err)
	}
	cmd := exec.CommandContext(w.Context(), built.keyd, "hsm", "--config", w.path("other/keyd.yaml"))
	var log bytes.Buffer
	cmd.Env, cmd.Stderr = w.env, &log
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case !errors.As(err, &exit) || exit.ExitCode() != 2:
		return "a process that ended with " + err.Error() + ": " + log.String()
	case !strings.Contains(log.String(), names):
		return "a refusal that does not say why: " + log.String()
	}
	return ""
}
