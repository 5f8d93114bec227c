package emulator_test

import (
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/softhsm-test/rights"
)

// arcKeyDir is the only place where azidentity accepts the agent's key files.
const arcKeyDir = "/var/opt/azcmagent/tokens"

const inNamespace = "EMULATOR_TEST_IN_NAMESPACE"

// The test runs itself again with its own /var/opt, because azidentity reads the agent's keys from nowhere else.
func TestAWorkloadOnAnArcMachineFindsItsIdentity(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		rights.ToMount(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"=yes")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("in a mount namespace: %v\n%s", err, out)
		}
		return
	}
	must(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	must(t, syscall.Mount("tmpfs", "/var/opt", "tmpfs", 0, ""))
	must(t, os.MkdirAll(arcKeyDir, 0o700))
	e := start(t, emulator.Options{IdentityListen: "127.0.0.1:0", ArcKeyDir: arcKeyDir})
	setEnviron(t, e.ArcEnviron())
	_, err := systemAssigned(t, e, premium).GetKey(t.Context(), "absent", "", nil)
	wantError(t, err, 404, "KeyNotFound", "")
	if left, err := os.ReadDir(arcKeyDir); err != nil || len(left) != 0 {
		t.Errorf("key files left: %v, %v", left, err)
	}
}

func TestTheArcAgentAnswersOnlyCallersWhoCanReadItsKey(t *testing.T) {
	directory := t.TempDir()
	e := start(t, emulator.Options{IdentityListen: "127.0.0.1:0", ArcKeyDir: directory})
	endpoint, _ := strings.CutPrefix(e.ArcEnviron()[0], "IDENTITY_ENDPOINT=")
	ask := func(authorization string) *http.Response {
		header := http.Header{"Metadata": {"true"}}
		if authorization != "" {
			header.Set("Authorization", authorization)
		}
		res, _ := do(t, e, "GET", endpoint+"?api-version=2020-06-01&resource=https://vault.azure.net", header, "")
		return res
	}
	challenge := ask("")
	path, ok := strings.CutPrefix(challenge.Header.Get("WWW-Authenticate"), "Basic realm="+directory)
	if challenge.StatusCode != 401 || !ok || !strings.HasSuffix(path, ".key") {
		t.Fatalf("%d %s", challenge.StatusCode, challenge.Header.Get("WWW-Authenticate"))
	}
	secret, err := os.ReadFile(directory + path)
	must(t, err)
	for _, step := range []struct {
		authorization string
		status        int
	}{{"Basic guess", 403}, {"Basic " + string(secret), 200}, {"Basic " + string(secret), 403}} {
		if got := ask(step.authorization).StatusCode; got != step.status {
			t.Errorf("%d, want %d", got, step.status)
		}
	}
}
