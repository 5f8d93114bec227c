package emulator_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	e, err := emulator.Start(emulator.Options{Vaults: []emulator.VaultConfig{{Host: premium}},
		AdminListen: "127.0.0.1:0"})
	must(t, err)
	c := newClient(t, e, premium)
	_, err = c.GetKey(t.Context(), "k", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
	rule := e.Fail(emulator.Rule{Operation: "get", Delay: time.Hour})
	var pending sync.WaitGroup
	pending.Go(func() {
		if _, err := c.GetKey(t.Context(), "k", "", nil); err == nil {
			t.Error("a delayed call was answered")
		}
	})
	poll(t, func() bool { return rule.Hits() > 0 })
	must(t, e.Close())
	pending.Wait()
	if !poll(t, func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<16)
		t.Errorf("%s", stacks[:runtime.Stack(stacks, true)])
	}
}

func TestStartRefusesOptionsThatCannotWork(t *testing.T) {
	for name, opts := range map[string]emulator.Options{
		"an address others reach": {ProxyListen: "0.0.0.0:0"},
		"an admin others reach":   {AdminListen: ":0"},
		"a vault that is no name": {Vaults: []emulator.VaultConfig{{Host: "contoso"}}},
		"a vault with a port":     {Vaults: []emulator.VaultConfig{{Host: premium + ":443"}}},
		"a vault that is " +
			"there twice": {Vaults: []emulator.VaultConfig{{Host: premium}, {Host: strings.ToUpper(premium)}}},
	} {
		if e, err := emulator.Start(opts); err == nil {
			t.Errorf("%s was accepted", name)
			must(t, e.Close())
		}
	}
}

func TestEnvironSendsEverythingThroughTheProxy(t *testing.T) {
	e := start(t, emulator.Options{})
	env := strings.Join(e.Environ("ca.pem"), "\n")
	for _, want := range []string{
		"HTTPS_PROXY=" + e.ProxyURL(), "http_proxy=" + e.ProxyURL(), "NO_PROXY=\n",
		"SSL_CERT_FILE=ca.pem", "NODE_EXTRA_CA_CERTS=ca.pem", "REQUESTS_CA_BUNDLE=ca.pem", "CURL_CA_BUNDLE=ca.pem",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("%q is not in\n%s", want, env)
		}
	}
}

func TestRequestsAreLoggedWithTheirMeaning(t *testing.T) {
	e := start(t, emulator.Options{})
	foreign(t, e, premium, "k")
	_, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
	must(t, err)
	var got []string
	for _, r := range e.Requests() {
		got = append(got, r.Operation+" "+http.StatusText(r.Status))
	}
	if s := strings.Join(got, ", "); s != "get Unauthorized, token OK, get OK" {
		t.Error(s)
	}
}

func adminCall(t *testing.T, e *emulator.Emulator, method, path, body string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, e.AdminURL()+path, strings.NewReader(body))
	must(t, err)
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	must(t, err)
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	must(t, err)
	return res.StatusCode, b.Bytes()
}

func TestTheAdminEndpointSetsRulesMeddlesAndShows(t *testing.T) {
	e := start(t, emulator.Options{AdminListen: "127.0.0.1:0"})
	call := func(method, path, body string) (int, []byte) {
		t.Helper()
		return adminCall(t, e, method, path, body)
	}
	for _, rule := range []string{"op=get,status=503", `{"Operation":"get","Status":503}`} {
		if status, body := call("POST", "/rules", rule); status != 204 {
			t.Fatalf("%d %s", status, body)
		}
		_, err := newClient(t, e, premium).GetKey(t.Context(), "k", "", nil)
		wantError(t, err, 503, "ServiceUnavailable", "")
		call("DELETE", "/rules", "")
	}
	if status, _ := call("POST", "/rules", "nonsense"); status != 400 {
		t.Errorf("a bad rule got %d", status)
	}
	if status, body := call("POST", "/meddle", `{"host":"`+premium+
		`","do":"AddForeignVersion","key":"k"}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	var state struct {
		Vaults map[string]map[string][]struct{ ID string }
	}
	_, body := call("GET", "/state", "")
	must(t, json.Unmarshal(body, &state))
	if len(state.Vaults[premium]["k"]) != 1 {
		t.Errorf("state: %s", body)
	}
}

func TestTheAdminEndpointChangesWhoMayDoWhat(t *testing.T) {
	e := startVaults(t, emulator.Options{AdminListen: "127.0.0.1:0"},
		emulator.VaultConfig{Host: premium, Access: emulator.RoleBased})
	foreign(t, e, premium, "k")
	meddle := func(do, what string) int {
		t.Helper()
		body := `{"host":"` + premium + `","do":"` + do + `","what":"` + what + `"}`
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Post(e.AdminURL()+"/meddle",
			"application/json", strings.NewReader(body))
		must(t, err)
		must(t, res.Body.Close())
		return res.StatusCode
	}
	c := clientAs(t, e, premium, "admin-test-client")
	get := func() error { _, err := c.GetKey(t.Context(), "k", "", nil); return err }
	for _, step := range []struct {
		do, what string
		inner    string // "": allowed
	}{
		{"Assign", "admin-test-client:crypto-user:/keys/k", ""},
		{"SetFirewall", "192.0.2.0/24", "ForbiddenByFirewall"},
		{"SetIdentity", "admin-test-client=192.0.2.1", ""},
		{"SetFirewall", "off", ""},
		{"Unassign", "admin-test-client:crypto-user:/keys/k", "ForbiddenByRbac"},
		{"SetAccessPolicy", "admin-test-client:get", "ForbiddenByRbac"}, // the vault goes by roles
		{"RevokeTokens", "someone-else", "ForbiddenByRbac"},
	} {
		if status := meddle(step.do, step.what); status != 200 {
			t.Fatalf("%s: %d", step.do, status)
		}
		if err := get(); step.inner == "" && err != nil {
			t.Errorf("after %s %s: %v", step.do, step.what, err)
		} else if step.inner != "" {
			wantError(t, err, 403, "Forbidden", step.inner)
		}
	}
	for do, what := range map[string]string{"Assign": "c:reader", "SetFirewall": "everywhere", "SetIdentity": "c",
		"SetAccessPolicy": ":get"} {
		if status := meddle(do, what); status != 400 {
			t.Errorf("%s %s: %d", do, what, status)
		}
	}
}
