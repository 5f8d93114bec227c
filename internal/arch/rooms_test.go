// Package arch_test has the one rule of the building as a test: a room imports only rooms on lower floors.
package arch_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/keyd-project/keyd/"

// floors is DESIGN's table of rooms: which floor each is on.
var floors = map[string]int{
	"cmd/keyd":                 6,
	"internal/daemon":          5,
	"internal/control":         4,
	"internal/web":             4,
	"internal/trouble":         4,
	"internal/check":           4,
	"internal/simulate":        5,
	"internal/rotate":          3,
	"internal/observe":         3,
	"internal/consumer":        3,
	"internal/audit":           3,
	"internal/health":          3,
	"internal/leader":          3,
	"internal/plan":            2,
	"internal/hsm":             2,
	"internal/vault":           2,
	"internal/store/bolt":      3,
	"internal/store/stored":    2,
	"internal/store/move":      3,
	"internal/store/postgres":  3,
	"internal/store/etcd":      3,
	"internal/store/shared":    4,
	"internal/term":            0,
	"internal/config":          2,
	"internal/store/storetest": 3,
	"internal/record":          1,
	"internal/attest":          1,
	"internal/chain":           1,
	"internal/byok":            1,
	"internal/pin":             1,
	"internal/proof":           1,
	"internal/quota":           1,
	"internal/service":         1,
	"internal/status":          1,
	"internal/key":             0,
	"internal/killpoint":       0,
	"internal/login":           0,
	"internal/ownership":       0,
	"internal/priority":        0,
	"internal/recent":          0,
	"internal/sample":          0,
	"internal/schedule":        0,
	"internal/words":           0,
	"docs":                     0,
}

// apart are packages that import none of keyd's rooms.
var apart = map[string][]string{
	"internal/emulator":     {"internal/emulator/arm"},
	"internal/emulator/arm": nil,
	"cmd/keyvault-emulator": {"internal/emulator", "internal/emulator/arm"},
	"softhsm-test":          nil,
	"softhsm-test/rights":   nil,
	"softhsm-test/fasttime": nil,
	"softhsm-test/freeport": nil,
	"softhsm-test/effects":  {"internal/emulator"},
	"softhsm-test/hosts": {"softhsm-test", "softhsm-test/effects", "softhsm-test/etcdtest", "softhsm-test/fasttime",
		"softhsm-test/freeport", "softhsm-test/postgrestest", "internal/chain", "internal/control", "internal/emulator",
		"internal/emulator/arm", "internal/key", "internal/status"},
	"softhsm-test/systemtest": nil,
	"softhsm-test/clients":    nil,
	"softhsm-test/recordings": {"internal/emulator"},
	"softhsm-test/demo":       {"softhsm-test", "softhsm-test/freeport", "internal/emulator", "internal/emulator/arm"},
	"softhsm-test/measure":    nil,
	"softhsm-test/authority":  nil,
	"softhsm-test/etcdtest":   {"softhsm-test/authority", "softhsm-test/freeport"},
	"softhsm-test/scale": {
		"softhsm-test", "softhsm-test/fasttime", "softhsm-test/freeport", "softhsm-test/measure", "internal/emulator",
	},
	"softhsm-test/postgrestest": {
		"softhsm-test/freeport",
	},
	"softhsm-test/alertstest": nil,
	"softhsm-test/consumers":  nil,
	"deploy/grafana":          nil,
}

// sole are the libraries that only one room may import.
var sole = map[string]string{
	"github.com/miekg/pkcs11": "internal/hsm",
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys": "internal/vault",
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity":               "internal/vault",
	"github.com/jackc/pgx/v5":                                        "internal/store/postgres",
	"github.com/jackc/pgx/v5/pgconn":                                 "internal/store/postgres",
	"github.com/jackc/pgx/v5/pgxpool":                                "internal/store/postgres",
	"go.etcd.io/bbolt":                                               "internal/store/bolt",
	"github.com/robfig/cron/v3":                                      "internal/schedule",
	"go.etcd.io/etcd/client/v3":                                      "internal/store/etcd",
}

type listed struct {
	ImportPath string
	Imports    []string
	GoFiles    []string
}

func rooms(t *testing.T) (out []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles", module+"...")
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	d := json.NewDecoder(strings.NewReader(string(stdout)))
	for {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
}

func TestARoomImportsOnlyLowerFloors(t *testing.T) {
	for _, p := range rooms(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		allowed, isApart := apart[room]
		floor, isRoom := floors[room]
		if !isApart && !isRoom {
			t.Errorf("%s is on no floor: give it one here and in ARCHITECTURE.md", room)
			continue
		}
		for _, path := range p.Imports {
			other, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			switch {
			case isApart && !contains(allowed, other):
				t.Errorf("%s imports %s, and must stand apart", room, other)
			case isRoom && floors[other] >= floor:
				t.Errorf("%s (floor %d) imports %s (floor %d)", room, floor, other, floors[other])
			}
		}
	}
}

func TestALibraryReservedForOneRoomIsImportedByNoOther(t *testing.T) {
	for _, p := range rooms(t) {
		room := strings.TrimPrefix(p.ImportPath, module)
		for _, path := range p.Imports {
			if owner, ok := sole[path]; ok && owner != room {
				t.Errorf("%s imports %s, which is %s's alone", room, path, owner)
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
