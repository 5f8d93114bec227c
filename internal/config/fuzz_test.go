package config

import (
	"strings"
	"testing"
)

// Whatever the files hold, the result is a configuration or at least one problem, and every problem has a place.
func FuzzBuild(f *testing.F) {
	f.Add([]byte("instance: a\nhsm: {uri: 'pkcs11:token=a'}\n"), []byte("keys: {a: {vaults: [b]}}\n"))
	f.Add([]byte("vaults:\n  a:\n    url: https://abc.vault.azure.net\n"), []byte("---\n"))
	f.Add([]byte("a: &x [*x, {<<: *x}]\n? b\n: !!int c\n"), []byte("\ufeffkeys:\r\n  a: |\n    b\n"))
	f.Add([]byte("keys:\n  k:\n    schedule: \"TZ=\"\n    retire: {disable_after: 1d}\n"), []byte("%YAML 1.2\n---\n"))
	f.Add([]byte("azure: {subscriptions: [x]}\nvaults: {v: {evidence: {}}}\nkeys: {k: {consumers: [{}, none, /]}}\n"),
		[]byte("keys: {l: {consumers: {id: /subscriptions/a}, retire: {disable_after: 2d}}}\n"))
	f.Add(
		[]byte("host: a\nstore: {postgres: {url: \"postgres://k:x@[::1]:1,b/d?password=x\"}}\npeople: {a: {b: 1}}\n"),
		[]byte("store: {}\n"),
	)
	f.Add(
		[]byte(
			"store: {lease: 1h, etcd: {endpoints: [\"http://@\", x], prefix: /, user: a}}\npeople: {1: {}, b: }\n",
		),
		[]byte("people: {}\n"),
	)
	f.Add([]byte(strings.Repeat("- ", 900)), []byte(strings.Repeat("[", 2000)))
	f.Fuzz(func(t *testing.T, main, fragment []byte) {
		rep := &report{order: []string{"keyd.yaml", "keys.d/a.yaml"}}
		c := build([]source{{"keyd.yaml", main}, {"keys.d/a.yaml", fragment}}, rep)
		err := rep.err()
		if err == nil && (c.Instance == "" || c.HSM.Module == "" || c.HSM.PINFile == "") {
			t.Errorf("accepted without what is required: %+v", c)
		}
		for _, p := range rep.problems {
			if p.File == "" || p.Line < 1 || p.Column < 1 || p.Message == "" || strings.Contains(p.String(), "\n") {
				t.Errorf("a problem that does not help: %+v", p)
			}
		}
	})
}
