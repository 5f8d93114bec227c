package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
)

// hsmReads is a configuration that an HSM side reads, with its log.
type hsmReads struct {
	*rightsReader
	t   *testing.T
	log bytes.Buffer
}

func newHSMReads(t *testing.T) *hsmReads {
	t.Helper()
	r := &hsmReads{t: t}
	path := filepath.Join(t.TempDir(), "keyd.yaml")
	r.rightsReader = &rightsReader{path: path}
	r.write("weu: {url: https://contoso-weu.vault.azure.net}", "one: {vaults: [weu]}")
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.rightsReader, err = newRightsReader(path, cfg, slog.New(slog.NewTextHandler(&r.log, nil))); err != nil {
		t.Fatal(err)
	}
	return r
}

const hsmReadsForm = `instance: test
hsm: {module: /lib/none.so, token: none, pin_file: /none}
azure: {credential: managed-identity}
vaults: {%s}
keys: {%s}
`

// write replaces the configuration, as an editor does.
func (r *hsmReads) write(vaults, keys string) { r.replace(fmt.Sprintf(hsmReadsForm, vaults, keys)) }

func (r *hsmReads) replace(text string) {
	r.t.Helper()
	next := r.path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.path); err != nil {
		r.t.Fatal(err)
	}
}

func (r *hsmReads) digest() string {
	r.t.Helper()
	rights, err := r.permitted()
	if err != nil {
		r.t.Fatal(err)
	}
	return rights.Digest()
}

func (r *hsmReads) wantLogged(parts ...string) {
	r.t.Helper()
	for _, part := range parts {
		if !strings.Contains(r.log.String(), part) {
			r.t.Errorf("the log lacks %q:\n%s", part, &r.log)
		}
	}
	r.log.Reset()
}

func TestTheHSMSideReadsAChangedConfigurationByItselfAndLogsTheChange(t *testing.T) {
	r := newHSMReads(t)
	before := r.digest()
	r.wantLogged()
	r.write("weu: {url: https://contoso-weu.vault.azure.net, kek: {trust: first-use}}", "one: {vaults: [weu]}")
	if r.digest() == before {
		t.Error("the change was not read")
	}
	r.wantLogged("contoso-weu.vault.azure.net", "first_use", "level=WARN")
}

func TestAnInvalidConfigurationPermitsNothingAndReplacesNothing(t *testing.T) {
	r := newHSMReads(t)
	before := r.digest()
	r.write("weu: {url: https://contoso-weu.vault.azure.net, kek: {trust: first-use}}", "one: {vaults: [nowhere]}")
	for range 2 {
		if _, err := r.permitted(); err == nil || !strings.Contains(err.Error(), "unknown vault nowhere") {
			t.Errorf("permitted by an invalid configuration: %v", err)
		}
	}
	if got := strings.Count(r.log.String(), "nowhere"); got != 1 {
		t.Errorf("the mistake is logged %d times", got)
	}
	r.wantLogged("makes and wraps nothing")
	r.write("weu: {url: https://contoso-weu.vault.azure.net}", "one: {vaults: [weu]}")
	if r.digest() != before {
		t.Error("the configuration from before permits something else now")
	}
	r.wantLogged("permits what it did")
}

func TestTheConfigurationOfAnotherInstancePermitsNothing(t *testing.T) {
	r := newHSMReads(t)
	r.replace(strings.Replace(fmt.Sprintf(hsmReadsForm, "", ""), "instance: test", "instance: other", 1))
	if _, err := r.permitted(); err == nil || !strings.Contains(err.Error(), "instance other") {
		t.Errorf("permitted: %v", err)
	}
}

func TestBothSidesOfOneConfigurationHaveOneDigest(t *testing.T) {
	r := newHSMReads(t)
	cfg, err := config.Load(r.path)
	if err != nil {
		t.Fatal(err)
	}
	rights, err := rightsOf(cfg)
	if err != nil || rights.Digest() != r.digest() {
		t.Errorf("the daemon's digest differs: %v", err)
	}
}
