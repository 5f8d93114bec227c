//go:build clients

package clients

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

var (
	emulatorBinary = flag.String("emulator", "", "the keyvault-emulator program to test")
	update         = flag.Bool("update", false, "write the parts of docs/emulator.md that this test makes")
	asSuite        = flag.String("suite", "", "run as the Go client with this setup file")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *asSuite == "" {
		os.Exit(m.Run())
	}
	if err := goSuite(*asSuite); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// done holds all results by client, profile and operation.
type done map[string]map[string]map[string]result

// TestClients runs every operation with each client, compares the results with
// operations.txt and with one another, and docs/emulator.md with the results.
func TestClients(t *testing.T) {
	table := operations(t)
	seen, summaries := done{}, map[string]string{}
	var mu sync.Mutex
	t.Run("does", func(t *testing.T) {
		for _, c := range allClients(t) {
			t.Run(c.title, func(t *testing.T) {
				t.Parallel()
				results, requests := c.run(t, table)
				mu.Lock()
				defer mu.Unlock()
				seen[c.name] = byProfile(results)
				summaries[c.name] = summary(c, results, requests)
				checkExpected(t, c, table, seen[c.name])
			})
		}
	})
	if t.Failed() {
		return
	}
	t.Run("all clients see the same", func(t *testing.T) { compare(t, table, seen) })
	t.Run("docs/emulator.md has it", func(t *testing.T) { checkDocument(t, table, seen) })
	for _, c := range allClients(t) {
		fmt.Println(summaries[c.name])
	}
}

// TestCurl runs the lines for curl in the document.
func TestCurl(t *testing.T) {
	cmd := exec.Command("sh", "hello.sh")
	cmd.Env = append(os.Environ(), start(t).environ...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"kid":"https://contoso-weu.vault.azure.net/keys/hello/`) {
		t.Errorf("%v: %s", err, out)
	}
}

func byProfile(results []result) map[string]map[string]result {
	sorted := map[string]map[string]result{}
	for _, p := range profiles() {
		sorted[p.Name] = map[string]result{}
	}
	for _, r := range results {
		sorted[r.Profile][r.Operation] = r
	}
	return sorted
}

// checkExpected compares one client's results with operations.txt.
func checkExpected(t *testing.T, c client, table []operation, results map[string]map[string]result) {
	t.Helper()
	for _, o := range table {
		for i, p := range profiles() {
			want, _ := o.expected(c.name, i)
			r, did := results[p.Name][o.name]
			if did != (want != notThere) || did && !r.is(want) {
				t.Errorf("%s: %s: got %s; want %s", p.Name, o.name, r, want)
			}
		}
	}
}

// compare compares the clients' errors: the service sent the same status, code, inner
// code and message.
func compare(t *testing.T, table []operation, seen done) {
	for _, o := range table {
		for i, p := range profiles() {
			var first *result
			for _, c := range allClients(t) {
				r := seen[c.name][p.Name][o.name]
				if want, departs := o.expected(c.name, i); departs != nil || strings.HasPrefix(want, says) ||
					r.Outcome != "error" {
					continue
				}
				if first == nil {
					first = &r
				}
				if first.Error.service() != r.Error.service() {
					t.Errorf("%s: %s: one client has %s, and %s has %s", p.Name, o.name, first, c.title, r)
				}
			}
		}
	}
}

func summary(c client, results []result, requests int) string {
	did, refused := 0, 0
	for _, r := range results {
		if r.Outcome != absent {
			did++
		}
		if r.Outcome == "error" {
			refused++
		}
	}
	return fmt.Sprintf("clients: %-10s %d operations in %d profiles, of which %d were refused as they must be, by "+
		"%d requests",
		c.title, did, len(profiles()), refused, requests)
}
