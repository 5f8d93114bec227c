package severalhosts

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// behind is what a host's line has, too, until the host tells of itself again.
var behind = regexp.MustCompile(`; when it last told of itself, it had seen entry \d+`)

// One host with a key in a vault becomes two on PostgreSQL, and one again.
func TestAStateMovesThereAndBackAsThePageSays(t *testing.T) {
	t.Parallel()
	e := newEstate(t)
	a := e.newHost(t)
	e.begin(t, a)

	config := strings.Replace(e.config, withoutOperators, read(t, namePeople).next("yaml").text, 1)
	a.configure(config)
	a.keyd("reload")
	d := setUpPostgres(t, a, config)
	a.run(read(t, ask).next("console"))
	a.run(read(t, backUp).next("console"))
	a.run(read(t, move).next("console"))
	a.keyd("audit --verify --state /var/lib/keyd")
	a.keyd("audit --verify --state /etc/keyd/keyd.yaml")

	b := e.newHost(t, d.addresses()...)
	b.configure(strings.Replace(config, "host: hq-a", "host: hq-b", 1) + d.section)
	d.bringFiles(b)
	b.run(read(t, addHosts).next("console"))
	shows(t, a, read(t, dayByDay).next("console"))
	if n := len(e.azure.Vault(vaultHost).Versions(keyName)); n != 1 {
		t.Errorf("the vault has %d versions of the key, want 1", n)
	}

	must(t, b.systemctl("stop keyd"))
	a.write(a.here(config), "etc/keyd/alone/keyd.yaml")
	a.run(read(t, wayBack).next("console"))
	out, err := b.try(block{text: "# keyd store status"})
	if err == nil || !strings.Contains(out, "its state was moved to the file "+a.path("var/lib/keyd/keyd.db")) {
		t.Errorf("the closed store shows: %v\n%s", err, out)
	}
	must(t, a.until("keyd looks after the key", func(s status.Snapshot) bool {
		_, found := s.Key(keyName)
		return found && len(s.Problems) == 0
	}))
	a.keyd("audit --verify")
}

// otherLeads turns the page's two hosts around: on a slow machine the one that leads may lose its lease.
var otherLeads = strings.NewReplacer("leader            hq-a", "leader            hq-b", "leads;", "can work;",
	"can work;", "leads;")

// shows waits until the hosts have told of themselves, and the block prints what the page shows.
func shows(t *testing.T, h *host, b block) {
	t.Helper()
	var problem error
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		out, err := h.try(b)
		if err == nil {
			out = behind.ReplaceAllString(out, "")
			err = missing(b.shown(t), out)
			other := b
			other.text = otherLeads.Replace(b.text)
			if err == nil || missing(other.shown(t), out) == nil {
				return
			}
		}
		problem = fmt.Errorf("%w:\n%s", err, out)
	}
	t.Errorf("%s:%d: %v", page, b.line, problem)
}
