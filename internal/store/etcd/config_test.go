package etcd

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/store/stored"
)

func TestWhatConfigurationsAreRefused(t *testing.T) {
	good := func() Config {
		return Config{Endpoints: []string{"https://db1:2379", "https://[2001:db8::1]:2379"}, Prefix: "/keyd/hq-1/"}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no endpoint":              {func(c *Config) { c.Endpoints = nil }, "no endpoints"},
		"an endpoint without TLS":  {func(c *Config) { c.Endpoints = []string{"http://db1:2379"} }, "write https://"},
		"a host without a scheme":  {func(c *Config) { c.Endpoints = []string{"db1:2379"} }, "https"},
		"an endpoint without port": {func(c *Config) { c.Endpoints[0] = "https://db1" }, "not a URL such as"},
		"a password in the URL":    {func(c *Config) { c.Endpoints[0] = "https://k:secret@db1:2379" }, "not a URL"},
		"both kinds of endpoint":   {func(c *Config) { c.Endpoints[0] = "http://127.0.0.1:1" }, "use one of them"},
		"a certificate alone":      {func(c *Config) { c.CertificateFile = "x" }, "key_file"},
		"a user alone":             {func(c *Config) { c.User = "keyd" }, "password_file"},
		"a password alone":         {func(c *Config) { c.PasswordFile = "x" }, "user"},
		"no prefix":                {func(c *Config) { c.Prefix = "" }, "begins and ends with /"},
		"the root as prefix":       {func(c *Config) { c.Prefix = "/" }, "begins and ends with /"},
		"a prefix without end":     {func(c *Config) { c.Prefix = "/keyd" }, "begins and ends with /"},
		"a relative prefix":        {func(c *Config) { c.Prefix = "keyd/" }, "begins and ends with /"},
		"an empty part":            {func(c *Config) { c.Prefix = "/keyd//hq-1/" }, "no part of it"},
		"a prefix in a store":      {func(c *Config) { c.Prefix = "/keyd/blob/" }, "no part of it"},
	} {
		changed := good()
		c.change(&changed)
		if err := changed.Check(); !contains(err, c.want) || contains(err, "secret") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestWhichVersionsAreTooOld(t *testing.T) {
	for version, good := range map[string]bool{
		"3.3.27": false, "3.4.21": false, "3.4.22": true, "3.4.40": true, "3.5.0": false, "3.5.5": false, "3.5.6": true,
		"3.6.0": true, "3.6.0-rc.1": true, "4.0.0": true, "2.3.8": false, "": false, "3.4": false,
	} {
		if err := tooOld(version); (err == nil) != good {
			t.Errorf("etcd %q: %v", version, err)
		}
	}
}

// everything is all that lies under a prefix.
func everything(t *testing.T, e *Engine) map[string]string {
	t.Helper()
	r, err := e.client.Get(t.Context(), e.cfg.Prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range r.Kvs {
		all[string(kv.Key)] = string(kv.Value)
	}
	return all
}

// fill has a store of everything that a store has, and its host leads.
func fill(t *testing.T, e *Engine, text string) {
	t.Helper()
	if _, err := e.Take(t.Context(), text, [16]byte{1}, time.Hour); err != nil {
		t.Fatal(err)
	}
	c := noting(t, stored.Tip{}, "noted", 3)
	c.Records = []stored.Changed{{Name: "k", Value: stored.NewRecord("k", 3, []byte(text)).Encode()}}
	commit(t, e, c)
	if err := e.PutBlob(t.Context(), stored.Blob{Name: "b", Value: []byte(text)}); err != nil {
		t.Fatal(err)
	}
}

func TestTwoInstancesInOneEtcdDoNotTouchEachOther(t *testing.T) {
	c := fresh(t, running)
	var stores []*Engine
	for _, end := range []string{"", "a/", "a/b/", "ab/", "tip/", "lease/"} {
		one := c
		one.Prefix += end
		if err := Init(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		stores = append(stores, open(t, one))
	}
	for i, e := range stores {
		if at := tipOf(t, e); at != (stored.Tip{}) {
			t.Errorf("store %d begins at %+v", i, at)
		}
		if heads, _, err := e.Heads(t.Context()); len(heads) > 0 || err != nil {
			t.Errorf("store %d begins with %v, %v", i, heads, err)
		}
		before := everything(t, stores[0])
		fill(t, e, e.cfg.Prefix)
		after := everything(t, stores[0])
		maps.DeleteFunc(after, func(key, _ string) bool { return strings.HasPrefix(key, e.cfg.Prefix) })
		maps.DeleteFunc(before, func(key, _ string) bool { return strings.HasPrefix(key, e.cfg.Prefix) })
		if !maps.Equal(before, after) {
			t.Errorf("store %d changed another one:\n%q\n%q", i, before, after)
		}
	}
	for i, e := range stores {
		names, err := e.Blobs(context.WithoutCancel(t.Context()), "")
		if len(names) != 1 || err != nil {
			t.Errorf("store %d: blobs %q, %v", i, names, err)
		}
		if err := e.Seal(t.Context(), "moved"); err != nil {
			t.Fatal(err)
		}
		for _, other := range stores[i+1:] {
			if why, err := other.Sealed(t.Context()); why != "" || err != nil {
				t.Errorf("sealing store %d sealed another one: %q, %v", i, why, err)
			}
		}
	}
}
