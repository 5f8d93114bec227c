//go:build clients

package clients

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// client is one SDK with the program that uses it. The program gets the setup file's
// name as its last argument and prints one result a line.
type client struct {
	name    string
	title   string
	program []string
	// The packages, and the command that prints the version of the package that it gets.
	packages []string
	version  []string
}

func allClients(t *testing.T) []client {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []client{
		{
			name: "go", title: "Go", program: []string{self, "-suite"},
			packages: []string{goSDK + "security/keyvault/azkeys", goSDK + "azidentity"},
			version:  []string{"go", "list", "-m", "-f", "{{.Version}}"},
		},
		{
			name: "js", title: "JavaScript", program: []string{"node", "js/suite.mjs"},
			packages: []string{"@azure/keyvault-keys", "@azure/identity"},
			version: []string{"node", "-e", `
				const file = "js/node_modules/" + process.argv[1] + "/package.json";
				console.log(JSON.parse(require("fs").readFileSync(file)).version)`},
		},
		{
			name: "py", title: "Python", program: []string{"/usr/bin/python3", "-B", "python/suite.py"},
			packages: []string{"azure-keyvault-keys", "azure-identity"},
			version: []string{"/usr/bin/python3", "-c",
				"import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"},
		},
	}
}

// setup is a suite's input.
type setup struct {
	TenantID    string `json:"tenantId"`
	ClientID    string `json:"clientId"`
	Certificate string `json:"certificate"` // PEM: private key and certificate
	// Applications: one has this certificate registered, the other has another one.
	Application      string `json:"application"`
	OtherApplication string `json:"otherApplication"`

	FederatedToken string            `json:"federatedToken"` // file
	BrokenToken    string            `json:"brokenToken"`    // file
	AppService     map[string]string `json:"appService"`     // environment
	Admin          string            `json:"admin"`          // the emulator's admin endpoint
	Profiles       []profile         `json:"profiles"`
}

// result is one operation as a client saw it.
type result struct {
	Profile   string    `json:"profile"`
	Operation string    `json:"operation"`
	Outcome   string    `json:"outcome"` // ok, error, absent (the client cannot) or missing (a mistake)
	Error     sdkReport `json:"error"`
}

// sdkReport is an error as an SDK reports it to its user; Body is the service's answer, if any.
type sdkReport struct {
	Class   string `json:"class"`
	Status  int    `json:"status"` // 0: the client's own refusal
	Code    string `json:"code"`
	Inner   string `json:"inner"`
	Message string `json:"message"`
	Body    string `json:"body"`
}

// run runs a client's operations against its own emulator.
func (c client) run(t *testing.T, table []operation) ([]result, int) {
	t.Helper()
	dir := t.TempDir()
	mine, other := filepath.Join(dir, "client.pem"), filepath.Join(dir, "other.pem")
	writeCertificate(t, mine)
	writeCertificate(t, other)
	s := start(t, "--certificate=application="+mine, "--certificate=other-application="+other)
	cmd := exec.Command(c.program[0], append(c.program[1:], writeSetup(t, s, table, mine))...)
	cmd.Env = append(os.Environ(), s.environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", c.title, err, said.String())
	}
	var results []result
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var r result
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s said %q: %v", c.title, lines.Text(), err)
		}
		results = append(results, r)
	}
	requests := s.requests(t)
	c.checkReached(t, requests)
	c.checkUses(t, table, requests)
	return results, len(requests)
}

func writeSetup(t *testing.T, s stand, table []operation, certificate string) string {
	t.Helper()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	writeFile(t, in("federated"), []byte("eyJhbGciOiJub25lIn0.eyJpc3MiOiJrOHMifQ.")) // of issuer k8s, unsigned
	writeFile(t, in("broken"), []byte("none"))
	told := setup{
		TenantID: tenantID, ClientID: clientID, AppService: s.platform, Admin: s.admin,
		Certificate: certificate, Application: "application", OtherApplication: "other-application",
		FederatedToken: in("federated"), BrokenToken: in("broken"),
	}
	for i, p := range profiles() {
		for _, o := range table {
			if o.expect[i] != notThere {
				p.Operations = append(p.Operations, o.name)
			}
		}
		told.Profiles = append(told.Profiles, p)
	}
	text, err := json.Marshal(told)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, in("setup.json"), text)
	return in("setup.json")
}

// String formats a result for a test's message.
func (r result) String() string {
	if r.Outcome != "error" {
		return r.Outcome
	}
	e := r.Error
	return fmt.Sprintf("%s, status %d, code %q, inner %q: %s %s", e.Class, e.Status, e.Code, e.Inner, e.Message, e.Body)
}
