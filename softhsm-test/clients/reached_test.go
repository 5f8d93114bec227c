//go:build clients

package clients

import (
	"maps"
	"strings"
	"testing"
)

// successes counts a vault's successful requests by operation.
func successes(requests []request, p profile, keyPrefix string) map[string]int {
	n := map[string]int{}
	for _, r := range requests {
		if "https://"+r.Host == p.Vault && strings.HasPrefix(r.Key, keyPrefix) && r.Status >= 200 && r.Status < 300 {
			n[r.Operation]++
		}
	}
	return n
}

// checkReached requires that every operation of a client succeeded at every vault that
// has it.
func (c client) checkReached(t *testing.T, requests []request) {
	t.Helper()
	everywhere := []string{
		"create", "import", "get", "versions", "list", "update", "wrap", "unwrap", "encrypt", "decrypt", "sign",
		"verify",
		"delete", "getdeleted", "listdeleted", "recover", "purge", "rotationpolicy", "setrotationpolicy", "rotate",
	}
	for _, p := range profiles() {
		wanted := everywhere
		if p.Name == "managedhsm" {
			wanted = append(wanted[:len(wanted):len(wanted)], "attestation")
		}
		reached := successes(requests, p, "")
		for _, op := range wanted {
			if reached[op] == 0 {
				t.Errorf("%s never had a successful %s from the %s vault itself", c.title, op, p.Name)
			}
		}
	}
}

// checkUses requires that the service itself carried out each operation that uses a key, and that the client did none
// alone: the service counted as many as operations.txt has.
func (c client) checkUses(t *testing.T, table []operation, requests []request) {
	t.Helper()
	requestsOf := map[string]int{"verify": 2} // one of something signed, and one of something else
	for i, p := range profiles() {
		want := map[string]int{}
		for _, o := range table {
			word, rest, _ := strings.Cut(o.name, " ")
			op := strings.TrimSuffix(word, "Key")
			if expect, _ := o.expected(c.name, i); expect == succeeds && isUse(op) &&
				!strings.HasPrefix(rest, "in by ") {
				want[op] += max(1, requestsOf[op])
			}
		}
		got := successes(requests, p, "use-")
		maps.DeleteFunc(got, func(op string, _ int) bool { return !isUse(op) })
		if !maps.Equal(got, want) {
			t.Errorf("%s: the %s vault did %v with the keys in use; the operations are %v", c.title, p.Name, got, want)
		}
	}
}

func isUse(operation string) bool {
	switch operation {
	case "wrap", "unwrap", "encrypt", "decrypt", "sign", "verify":
		return true
	}
	return false
}
