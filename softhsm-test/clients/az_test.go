//go:build clients && az

package clients

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
)

// TestAz runs the document's lines for the az command line, without a state file.
func TestAz(t *testing.T) {
	cmd := exec.Command("sh", "az.sh")
	cmd.Env = append(append(os.Environ(), start(t).environ...), "AZURE_CONFIG_DIR="+t.TempDir(),
		"AZURE_CORE_COLLECT_TELEMETRY=no")
	out, err := cmd.CombinedOutput()
	const last = `(?m)^https://contoso-weu\.vault\.azure\.net/keys/hello/[0-9a-f]{32}\n$`
	if err != nil || !regexp.MustCompile(last).Match(out) {
		t.Errorf("%v: %s", err, out)
	}
}
