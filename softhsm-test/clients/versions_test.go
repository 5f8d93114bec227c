//go:build clients

package clients

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// goSDK is where Go's packages are.
const goSDK = "github.com/Azure/azure-sdk-for-go/sdk/"

// versions are the packages that a client consists of, each with its version, as its own package manager reports it.
func (c client) versions(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, name := range c.packages {
		out, err := exec.Command(c.version[0], append(c.version[1:], name)...).Output()
		if err != nil {
			t.Fatalf("the version of %s: %v", name, err)
		}
		lines = append(lines, strings.TrimPrefix(name, goSDK)+" "+strings.TrimSpace(string(out)))
	}
	return lines
}

// versionsTable lists the package versions behind the other tables.
func versionsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| in the tables | SDK for | packages |\n|---|---|---|\n")
	for _, c := range allClients(t) {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, c.title, strings.Join(c.versions(t), ", "))
	}
	return b.String()
}
