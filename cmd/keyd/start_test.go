package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// startConfig is a configuration with which a daemon starts; DIR is its folder.
const startConfig = `instance: hq-1
state_dir: DIR/state
hsm: {module: DIR/module.so, token: keyd, pin_file: DIR/pin}
azure: {credential: managed-identity}
vaults: {weu: {url: https://weu-keyd-test.vault.azure.net}}
control: {socket: DIR/keyd.sock}
web: {listen: "127.0.0.1:0"}
`

const nobody = 65534 // a uid

// says runs keyd to its end.
func says(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), terminalLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Args[0] = "keyd"
	cmd.Env = append(os.Environ(), "KEYD_SOCKET="+filepath.Join(t.TempDir(), "none"), "GORACE=atexit_sleep_ms=0",
		"CREDENTIALS_DIRECTORY=")
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
}

// startFolder has the files of startConfig, and some wrong ones.
func startFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "module.so"), "", 0o600)
	put(t, filepath.Join(dir, "pin"), "1234\n", 0o600)
	put(t, filepath.Join(dir, "text"), "no certificate\n", 0o600)
	put(t, filepath.Join(dir, "empty.yaml"), "", 0o600)
	put(t, filepath.Join(dir, "wide.yaml"), "", 0o620)
	put(t, filepath.Join(dir, "wrong.yaml"), "tls_server_confg: {}\n", 0o600)
	return dir
}

// Each row is a mistake that only a look at the host shows.
func TestPlanRefusesWhatAStartRefuses(t *testing.T) {
	const (
		azure = "azure: {credential: managed-identity}"
		byApp = "azure: {credential: client-certificate, tenant_id: contoso.example, " +
			"client_id: 7d8f1c7e-5d0c-4c5a-9b60-3f1e0a6c2b11, certificate_file: "
		local = `web: {listen: "127.0.0.1:0"`
	)
	for _, test := range []struct{ name, old, new, want string }{
		{"no CA file", azure, "azure: {ca_file: DIR/none}",
			"keyd.yaml:4:18: azure.ca_file: open DIR/none: no such file"},
		{"a CA file without certificates", azure, "azure: {ca_file: DIR/text}",
			"keyd.yaml:4:18: azure.ca_file DIR/text: it holds no certificate in PEM form"},
		{"no client certificate", azure, byApp + "DIR/none}", "read the credential: open DIR/none: no such file"},
		{"a wrong client certificate", azure, byApp + "DIR/text}", "it must hold the certificate and its private key"},
		{"no web configuration", local, local + ", web_config_file: DIR/none",
			"keyd.yaml:7:47: web.web_config_file: DIR/none: stat DIR/none: no such file or directory; write it, or "},
		{"a wrong web configuration", local, local + ", web_config_file: DIR/wrong.yaml", "tls_server_confg"},
		{"a web configuration that others may write", local, local + ", web_config_file: DIR/wide.yaml",
			"it is writable by group or others (mode 0620); run chmod go-w DIR/wide.yaml"},
		{"an open listener without TLS", local, `web: {listen: ":0", web_config_file: DIR/empty.yaml`,
			"keyd.yaml:7:38: web.web_config_file: DIR/empty.yaml: it has no TLS, and other hosts can reach web.listen"},
		{"an unknown group", "socket: DIR/keyd.sock", "socket: DIR/keyd.sock, group: kyed",
			`control.group: unknown group "kyed"`},
		{"an unknown operator", "socket: DIR/keyd.sock", "socket: DIR/keyd.sock, operators: [kyed]",
			`unknown user "kyed"`},
		{"an unknown user of the HSM side", "token: keyd", "token: keyd, user: kyed", `hsm.user: unknown user "kyed"`},
		{"no directory for the control socket", "DIR/keyd.sock", "DIR/none/keyd.sock",
			"keyd.yaml:6:19: control.socket: the directory DIR/none does not exist; make it with `install -d "},
		{"a file in the place of the control socket", "DIR/keyd.sock", "DIR/text",
			"keyd.yaml:6:19: control.socket: DIR/text exists and is not a socket"},
		{"a file in the place of the state", "DIR/state", "DIR/text",
			"keyd.yaml:2:12: state_dir: DIR/text is not a dir"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := startFolder(t)
			path := filepath.Join(dir, "keyd.yaml")
			if !strings.Contains(startConfig, test.old) {
				t.Fatalf("the configuration has no %q", test.old)
			}
			put(t, path, strings.ReplaceAll(strings.Replace(startConfig, test.old, test.new, 1), "DIR", dir), 0o600)
			planCode, planned := says(t, "plan", "--config", path)
			runCode, refused := says(t, "run", "--config", path)
			if planCode != exitUsage || runCode != exitUsage {
				t.Errorf("plan exits %d and run %d, want 2", planCode, runCode)
			}
			if planned != refused {
				t.Errorf("plan says\n%srun says\n%s", planned, refused)
			}
			want := strings.ReplaceAll(test.want, "DIR", dir)
			if !strings.Contains(planned, want) {
				t.Errorf("it says\n%swant %s", planned, want)
			}
		})
	}
}

// What a restart may heal is no mistake in the configuration: keyd exits 1, and systemd starts it again.
func TestPlanRefusesAStateAndAnAddressThatAStartRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct {
		name, old, new, want string
		spoil                func(state string) error
	}{
		{"a state that is damaged", "", "", "is damaged: ", func(state string) error {
			return os.WriteFile(filepath.Join(state, "keyd.db"), []byte("nothing"), 0o600)
		}},
		{"an address that is taken", "127.0.0.1:0", l.Addr().String(),
			"address already in use: choose another web.listen", func(string) error { return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := startFolder(t)
			path, state := filepath.Join(dir, "keyd.yaml"), filepath.Join(dir, "state")
			text := strings.Replace(startConfig, test.old, test.new, 1)
			put(t, path, strings.ReplaceAll(text, "DIR", dir), 0o600)
			if err := errors.Join(os.Mkdir(state, 0o700), test.spoil(state)); err != nil {
				t.Fatal(err)
			}
			planCode, planned := says(t, "plan", "--config", path)
			runCode, refused := says(t, "run", "--config", path)
			if planCode != exitFailed || runCode != exitFailed {
				t.Errorf("plan exits %d and run %d, want 1", planCode, runCode)
			}
			if !strings.HasSuffix(refused, planned) { // run also logs
				t.Errorf("plan says\n%srun says\n%s", planned, refused)
			}
			if !strings.Contains(planned, strings.ReplaceAll(test.want, "DIR", dir)) {
				t.Errorf("plan says\n%s", planned)
			}
		})
	}
}

// Who owns a state, and its mode, do not change by a restart: keyd exits 2, and systemd does not start it for ever.
func TestAStateThatOnlyAPersonCanGiveBackIsNotTriedAgain(t *testing.T) {
	open := func(state string) error { return os.Chmod(state, 0o755) }
	give := func(state string) error { return os.Chown(state, nobody, nobody) }
	for _, test := range []struct {
		name    string
		spoil   func(state string) error
		planned bool // root's plan sees it, too
		obey    bool // root's daemon obeys modes, as another user's does
		want    string
	}{
		{"others can enter it", open, true, false,
			"the state directory DIR/state has mode 0755, so others can enter it: chmod 0700 DIR/state"},
		{"another user can change it", give, false, false,
			"the state cannot be trusted: DIR/state belongs to user nobody, who can change it; run: sudo chown root "},
		{"it is another user's", give, false, true,
			"DIR/state belongs to nobody, and keyd runs as root; " +
				"to give it back: `sudo chown -R root:root 'DIR/state'`"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rights.ToBecomeAnotherUser(t)
			dir := startFolder(t)
			path, state := filepath.Join(dir, "keyd.yaml"), filepath.Join(dir, "state")
			put(t, path, strings.ReplaceAll(startConfig, "DIR", dir), 0o600)
			if err := errors.Join(os.Mkdir(state, 0o700), test.spoil(state)); err != nil {
				t.Fatal(err)
			}
			if test.obey {
				if err := childrenObeyModes(); err != nil {
					t.Fatal(err)
				}
			}
			want := strings.ReplaceAll(test.want, "DIR", dir)
			code, planned := says(t, "plan", "--config", path)
			if test.planned && (code != exitUsage || !strings.Contains(planned, want)) {
				t.Errorf("plan exits %d, want 2; it says\n%swant %s", code, planned, want)
			}
			code, refused := says(t, "run", "--config", path)
			if code != exitUsage || !strings.Contains(refused, "keyd.yaml:2:12: state_dir: ") ||
				!strings.Contains(refused, want) {
				t.Errorf("run exits %d, want 2; it says\n%swant %s", code, refused, want)
			}
		})
	}
}

func TestAnHSMSideThatCannotUseItsStateIsNotTriedAgain(t *testing.T) {
	rights.ToBecomeAnotherUser(t)
	dir := startFolder(t)
	path, state := filepath.Join(dir, "keyd.yaml"), filepath.Join(dir, "hsmstate")
	text := strings.Replace(startConfig, "token: keyd", `token: keyd, state_dir: DIR/hsmstate, socket: DIR/hsm.sock, `+
		`user: "0"`, 1)
	put(t, path, strings.ReplaceAll(text, "DIR", dir), 0o600)
	err := errors.Join(os.Mkdir(state, 0o700), os.Chown(state, nobody, nobody), childrenObeyModes())
	if err != nil {
		t.Fatal(err)
	}
	code, refused := says(t, "hsm", "--config", path)
	if code != exitUsage || !strings.Contains(refused, "hsm.state_dir: ") ||
		!strings.Contains(refused, "to give it back: `sudo chown -R root:root '"+state+"'`") {
		t.Errorf("hsm exits %d, want 2; it says\n%s", code, refused)
	}
}

// A shell has neither the service's credentials nor its variables: plan says what it could not check.
func TestPlanSaysWhatOnlyTheServiceCanSee(t *testing.T) {
	for azure, want := range map[string]string{
		"{credential: client-certificate, tenant_id: contoso.example, certificate_file: azure-certificate, " +
			"client_id: 7d8f1c7e-5d0c-4c5a-9b60-3f1e0a6c2b11}": "Not checked: azure.certificate_file: only the " +
			"service has the systemd credential azure-certificate.",
		"{credential: workload-identity}": "Not checked: azure.credential: only the service has the variables of " +
			"workload-identity.",
	} {
		dir := startFolder(t)
		path := filepath.Join(dir, "keyd.yaml")
		text := strings.Replace(startConfig, "{credential: managed-identity}", azure, 1)
		put(t, path, strings.ReplaceAll(text, "DIR", dir), 0o600)
		if code, said := says(t, "plan", "--config", path); code != exitDone || !strings.Contains(said, want) {
			t.Errorf("exit %d, it says\n%swant %s", code, said, want)
		}
	}
}
