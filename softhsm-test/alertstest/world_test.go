//go:build alerts

package alertstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	keyName   = "sa-cmk-key"
	vaultName = "contoso-weu"
	vaultHost = "contoso-weu.vault.azure.net"
	hsmName   = "contoso-hsm"
	hsmHost   = "contoso.managedhsm.azure.net"
)

// world is a token, an Azure, the keyd between them, and its monitoring.
type world struct {
	t     *testing.T // for the whole story; every process ends with it
	dir   string
	token *softhsmtest.Token
	hook  *webhook

	proxy, admin, web, prometheus, alertmanager string // host:port of each

	keyd, hsm *process
	processes []*process

	answered map[string]string // the dashboard's queries: "", or what their answers lacked
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: os.Getenv(inDirectory), hook: newWebhook(t), answered: map[string]string{}}
	ports := freePorts(t, 5)
	w.proxy, w.admin, w.web, w.prometheus, w.alertmanager = ports[0], ports[1], ports[2], ports[3], ports[4]
	token, err := softhsmtest.Create(w.dir, "keyd-alerts", "271828")
	if err != nil {
		t.Fatal(err)
	}
	w.token = token
	w.run(t, filepath.Join(*binDir, "keyvault-emulator"), "--proxy", w.proxy, "--admin", w.admin, "--ca-out",
		w.path("ca.pem"), "--attestation-root-out", w.path("attestation-root.pem"),
		"--vault", vaultHost+"=premium", "--vault", hsmHost+"=managedhsm", "--purge-protection", vaultHost,
		"--purge-protection", hsmHost,
		"--consumer", "ai="+pinnedName+",key=https://"+vaultHost+"/keys/"+keyName,
		"--consumer", "cosmos=cosmos-1,key=https://"+vaultHost+"/keys/app-01")
	eventually(t, "the emulator answers", func() error { _, err := get("http://" + w.admin + "/state"); return err })
	eventually(t, "the emulator has written its certificates", func() error { // the last of them is this one
		text, err := os.ReadFile(w.path("attestation-root.pem"))
		if err == nil && !strings.Contains(string(text), "END CERTIFICATE") {
			err = errors.New("it is not whole yet")
		}
		return err
	})
	w.configure(t, nil)
	w.startHSM(t)
	w.startKeyd(t)
	w.writeConfigurations(t)
	return w
}

// configure writes keyd's configuration, with the consumers of some keys.
func (w *world) configure(t *testing.T, consumers map[string]string) {
	t.Helper()
	token := w.token
	w.write(t, "keyd.yaml", fmt.Sprintf(`instance: alerts-test
state_dir: %[1]s/state
hsm:
  {module: %[2]s, token: %[3]s, pin_file: %[4]s, socket: %[1]s/hsm.sock, user: "%[9]d", state_dir: %[1]s/hsm,
   test_attestation_root: %[1]s/attestation-root.pem}
azure: {credential: managed-identity, ca_file: %[1]s/ca.pem}
vaults:
  contoso-weu: {url: "https://%[5]s", kek: {bits: 2048, trust: first-use}}
  contoso-hsm: {url: "https://%[6]s", kek: {bits: 2048, trust: first-use}}
keys:
%[7]scontrol: {socket: %[1]s/keyd.sock}
web: {listen: "%[8]s"}
health: {look: 2s, newest: 5s, older: 10s}
`, w.dir, token.Module, token.Label, token.PINFile, vaultHost, hsmHost, keysYAML(consumers), w.web, os.Getuid()))
}

// keys is how many keys there are, and keyName one of them.
const keys = 40

// keysYAML configures all of them. consumers has the ids of those that have a consumer in contoso-weu.
func keysYAML(consumers map[string]string) string {
	var b strings.Builder
	for i := range keys {
		name := keyName
		if i > 0 {
			name = fmt.Sprintf("app-%02d", i)
		}
		var used string
		if id := consumers[name]; id != "" {
			used = fmt.Sprintf(", consumers: [{id: %s, vault: contoso-weu}]", id)
		}
		fmt.Fprintf(&b, "  %s: {spec: RSA-2048, vaults: [contoso-weu, contoso-hsm], schedule: \"@yearly\", floor: 0s, "+
			"budget: 1000%s}\n", name, used)
	}
	return b.String()
}

// startHSM starts the HSM side as a service of its own, so that a test can stop it.
func (w *world) startHSM(t *testing.T) {
	t.Helper()
	w.hsm = w.run(t, filepath.Join(*binDir, "keyd"), w.token.Environ(), "hsm", "--config", w.path("keyd.yaml"))
	eventually(t, "the HSM side listens", func() error { _, err := os.Stat(w.path("hsm.sock")); return err })
}

// startKeyd starts the daemon and waits until it has finished what is due.
func (w *world) startKeyd(t *testing.T) {
	t.Helper()
	env := append(w.token.Environ(), "HTTPS_PROXY=http://"+w.proxy, "HTTP_PROXY=http://"+w.proxy, "NO_PROXY=")
	w.keyd = w.run(t, filepath.Join(*binDir, "keyd"), env, "run", "--config", w.path("keyd.yaml"))
	eventually(t, "keyd is ready", func() error { _, err := get("http://" + w.web + "/readyz"); return err })
}

// watch starts Prometheus and Alertmanager.
func (w *world) watch(t *testing.T) {
	t.Helper()
	w.run(t, "prometheus-alertmanager", "--config.file", w.path("alertmanager.yml"), "--storage.path",
		w.path("alertmanager"),
		"--web.listen-address", w.alertmanager, "--cluster.listen-address", "")
	eventually(t, "Alertmanager is ready",
		func() error { _, err := get("http://" + w.alertmanager + "/-/ready"); return err })
	w.run(t, "prometheus", "--config.file", w.path("prometheus.yml"), "--storage.tsdb.path", w.path("prometheus"),
		"--web.listen-address", w.prometheus)
	eventually(t, "Prometheus is ready",
		func() error { _, err := get("http://" + w.prometheus + "/-/ready"); return err })
}

// run starts a program; an argument that is a list of strings is of its environment.
func (w *world) run(t *testing.T, program string, args ...any) *process {
	t.Helper()
	var env, argv []string
	for _, a := range args {
		switch a := a.(type) {
		case []string:
			env = a
		case string:
			argv = append(argv, a)
		}
	}
	p := start(t, w.dir, env, program, argv...)
	w.t.Cleanup(func() { p.stop(w.t, syscall.SIGKILL) })
	w.processes = append(w.processes, p)
	return p
}

// tell logs the output of all processes.
func (w *world) tell(t *testing.T) {
	t.Helper()
	for _, p := range w.processes {
		t.Log(p.tail())
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// cli runs one of keyd's commands, which must succeed.
func (w *world) cli(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(*binDir, "keyd"),
		append(args, "--socket", w.path("keyd.sock"))...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = append(out, exit.Stderr...)
		}
		t.Fatalf("keyd %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// azure injects a fault into the emulator by a rule; "" ends all faults.
func (w *world) azure(t *testing.T, rule string) {
	t.Helper()
	method := http.MethodPost
	if rule == "" {
		method = http.MethodDelete
	}
	w.emulator(t, method, "/rules", rule)
}

// meddle changes the key in a vault as somebody else would.
func (w *world) meddle(t *testing.T, host, what string) {
	t.Helper()
	w.emulator(t, http.MethodPost, "/meddle", fmt.Sprintf(`{"host": %q, "do": %q, "key": %q}`, host, what, keyName))
}

func (w *world) emulator(t *testing.T, method, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(req); err != nil {
		t.Fatal(err)
	}
}

// sample is one element of an instant vector from Prometheus.
type sample struct {
	Metric map[string]string
	Value  [2]any // seconds, and the value as text
}

// query evaluates a PromQL expression in Prometheus now.
func (w *world) query(expr string) ([]sample, error) {
	var answer struct {
		Data struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	body, err := get("http://" + w.prometheus + "/api/v1/query?" + url.Values{"query": {expr}}.Encode())
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("%s gives a %s, not an instant vector", expr, answer.Data.ResultType)
	}
	var found []sample
	return found, json.Unmarshal(answer.Data.Result, &found)
}

var client = &http.Client{Timeout: 10 * time.Second}

func get(url string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(req)
}

func do(req *http.Request) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", req.Method, req.URL, resp.Status, body)
	}
	return body, err
}
