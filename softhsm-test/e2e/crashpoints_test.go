package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	pointInSource = regexp.MustCompile(`killpoint\.At\("([^"]+)"\)`)
	savedInSource = regexp.MustCompile(
		`(?:\.save\(ctx, (?:a\.)?rec, |\.saveAs\(ctx, (?:a\.)?rec, [\w().]+, |\.saveVault\(ctx, (?:a\.)?rec, ` +
			`[\w".]+, |\.note\(ctx, [\w".]+, |chain\.Entry\{+Event: )chain\.(\w+)`,
	)
	eventInSource = regexp.MustCompile(`(?m)^\t(\w+) +Event = "([^"]+)"`)
)

// events returns the text of each event of the chain, by its name in the source.
func events(t *testing.T) map[string]string {
	t.Helper()
	named := map[string]string{}
	for _, source := range sources(t, "chain") {
		for _, m := range eventInSource.FindAllStringSubmatch(source, -1) {
			named[m[1]] = m[2]
		}
	}
	return named
}

// saved lists the events that a source file saves, by their texts in the chain.
func saved(t *testing.T, source string) (texts []string) {
	t.Helper()
	named := events(t)
	for _, m := range savedInSource.FindAllStringSubmatch(source, -1) {
		text, ok := named[m[1]]
		if !ok {
			t.Fatalf("internal/chain has no event %s", m[1])
		}
		texts = append(texts, text)
	}
	return texts
}

// killedRooms are those in which every kill point and every saved event has a kill.
var killedRooms = []string{"rotate", "hsm", "audit"}

// notKilledAt lists the events that the other rooms save. None has an effect in the HSM or in a vault, and none
// changes what keyd must do.
var notKilledAt = map[string]string{
	"daemon started":            "is about the process alone",
	"daemon stopped":            "is about the process alone",
	"leader changed":            "begins a term; what follows it is under the term's epoch",
	"configuration reloaded":    "what follows it is in memory; a restart reads the configuration anyway",
	"configuration changed":     "is one transaction with the start or the reload; what follows it is in memory",
	"settings accepted by root": "is one transaction with the settings that it lets in",
	"backup taken":              "what follows it goes to the caller",
	"record migrated":           "one transaction with the records; no earlier schema exists to migrate from",
}

// sources are the rooms' source files, without their tests.
func sources(t *testing.T, rooms ...string) (found []string) {
	t.Helper()
	for _, room := range rooms {
		files, err := filepath.Glob("../../internal/" + room + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no source of %s: %v", room, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, string(source))
		}
	}
	return found
}

// Whoever adds a boundary to the loop, to the HSM side or to the audit key's keeper must add it here.
func TestEveryBoundaryInTheSourceIsAmongTheKillPoints(t *testing.T) {
	var told []byte
	for _, file := range []string{"crashnamed_test.go", "crashconsent_test.go", "crashapprovals_test.go",
		"crashrepoint_test.go", "crashreplace_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, text...)
	}
	var points []string
	for _, room := range killedRooms {
		for _, source := range sources(t, room) {
			for _, m := range pointInSource.FindAllStringSubmatch(source, -1) {
				points = append(points, m[1])
			}
			for _, event := range saved(t, source) {
				points = append(points, "save-before "+event, "save-after "+event)
			}
		}
	}
	if len(points) < 50 {
		t.Fatalf("only %d points were found in the source: %v", len(points), points)
	}
	for _, p := range points {
		if !strings.Contains(string(told), `"`+p+`"`) {
			t.Errorf("no process is killed at %q", p)
		}
	}
}

// rooms lists the folders below internal that have source files, such as "store/bolt".
func rooms(t *testing.T) (list []string) {
	t.Helper()
	for _, pattern := range []string{"*", "*/*"} {
		dirs, err := filepath.Glob("../../internal/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			files, _ := filepath.Glob(dir + "/*.go")
			if slices.ContainsFunc(files, func(f string) bool { return !strings.HasSuffix(f, "_test.go") }) {
				list = append(list, strings.TrimPrefix(dir, "../../internal/"))
			}
		}
	}
	if len(list) < 20 {
		t.Fatalf("only %d rooms were found: %v", len(list), list)
	}
	return list
}

// A room that begins to save events or to have kill points must be added to killedRooms, or say why it need not be.
func TestEveryBoundaryOfTheOtherRoomsIsNamedAsNotKilledAt(t *testing.T) {
	seen := map[string]bool{}
	for _, room := range rooms(t) {
		if slices.Contains(killedRooms, room) {
			continue
		}
		for _, source := range sources(t, room) {
			if pointInSource.MatchString(source) {
				t.Errorf("internal/%s has kill points, and is not among %v", room, killedRooms)
			}
			for _, event := range saved(t, source) {
				seen[event] = true
				if notKilledAt[event] == "" {
					t.Errorf("internal/%s saves %q: kill at it, or say why not", room, event)
				}
			}
		}
	}
	for event := range notKilledAt {
		if !seen[event] {
			t.Errorf("no room saves %q", event)
		}
	}
}
