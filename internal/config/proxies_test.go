package config_test

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
)

func environ(name, value string) func(string) string {
	return func(asked string) string {
		if asked == name {
			return value
		}
		return ""
	}
}

func TestAProxyVariableThatCannotBeParsedIsRefused(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for value, says := range map[string]string{
		"http://keyd:hunter2%@proxy:3128":     "percent sign",
		"http://keyd:50%off-hunter2@proxy":    "percent sign",
		"keyd:hunter2%zz@proxy:3128":          "percent sign",
		"http://keyd:hunter2#x@proxy:3128":    "it holds a #",
		"http://keyd:1#hunter2@proxy:3128":    "it holds a #", // Go takes it for the host keyd, port 1
		"http://keyd:hunter2?@proxy:3128":     "it holds a ?",
		" http://keyd:hunter2@proxy:3128":     "a space",
		"http://keyd:hunter2@proxy:3128\n":    "a line break",
		"http://keyd:hunter 2@proxy:3128":     "a space",
		"http://keyd:hunter2/x@proxy:3128":    "in the password",
		"http://keyd:1/hunter2@proxy:3128":    "in the password",
		"http://keyd:hunter2@proxy:3128/path": "after the host",
		"http://keyd:hunter2@":                "names no host",
		"http://keyd:hunter2@:3128":           "names no host",
		"http://keyd:hunter2@proxy:":          "port",
		"http://keyd:hunter2@proxy:99999":     "port",
		"http://keyd:hunter2@proxy:port":      "is not a URL",
		"ftp://keyd:hunter2@proxy":            "scheme",
		"http://[keyd:hunter2@proxy":          "is not a URL",
	} {
		for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
			err := config.CheckProxies(environ(name, value))
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), says) {
				t.Errorf("%s=%q: %v, want %q", name, value, err, says)
			} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "keyd:") {
				t.Errorf("%s=%q: the value is in the error: %v", name, value, err)
			}
		}
	}
}

func TestAProxyVariableThatCanBeParsedIsAccepted(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "proxy", "proxy:3128", "http://proxy:3128", "http://proxy:3128/",
		"https://proxy", "socks5://127.0.0.1:1080",
		"http://keyd:p%40ss%23word%25@proxy:3128", "keyd:secret@proxy:3128", "http://[::1]:3128",
		"http://keyd:a@b@proxy:3128"} {
		if err := config.CheckProxies(environ("HTTPS_PROXY", value)); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestOnlyTheVariableInEffectIsChecked(t *testing.T) {
	t.Parallel()
	env := map[string]string{"HTTPS_PROXY": "http://proxy:3128", "https_proxy": " bad"}
	if err := config.CheckProxies(func(name string) string { return env[name] }); err != nil {
		t.Error(err)
	}
}

func TestAnEntryOfNO_PROXYThatGoIgnoresIsRefused(t *testing.T) {
	t.Parallel()
	for value, bad := range map[string]bool{
		"": false, "*": false, "169.254.169.254,.vault.azure.net, localhost": false, "10.0.0.0/8,fd00::/8": false,
		"host:443,":                 false,
		"169.254.169.254 localhost": true, "http://169.254.169.254": true, "10.0.0.0/33": true, "host/path": true,
	} {
		if err := config.CheckProxies(environ("NO_PROXY", value)); (err != nil) != bad {
			t.Errorf("%q: %v", value, err)
		}
	}
}
