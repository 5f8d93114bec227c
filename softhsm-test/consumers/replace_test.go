//go:build consumers

package consumers

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// clean is the key that replaces data, in a vault that nobody used before, and in the old one for those that stay.
const cleanKey = "data-2"

const newSection = `  %s:
    spec: RSA-2048
    vaults: [clean, weu]
    floor: 0s
    budget: 1000
`

// replacement is what `keyd replace` shows.
func (s *story) replacement(args ...string) (r status.Replacement) {
	s.t.Helper()
	out := s.must(append([]string{"replace", data, "--json"}, args...)...)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return r
}

func (s *story) compromised() {
	s.start()
	s.awaitProof()
	out, err := s.command("replace", data, "--with", cleanKey, "--vault", "clean").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "vaults: [clean, weu]") {
		s.t.Errorf("without the new key in the configuration: %v: %s", err, out)
	}
	s.write("keyd.yaml", s.configuration(s.keys+fmt.Sprintf(newSection, cleanKey)))
	s.must("reload")
	s.await("the new key is active", func() bool {
		snap, err := s.look()
		k, _ := snap.Key(cleanKey)
		return err == nil && len(k.Generations) == 1 && !k.Generations[0].Finished.IsZero()
	})
	shown := s.must("replace", data, "--with", cleanKey, "--vault", "clean")
	if !strings.Contains(shown, "ai cannot leave vault weu") || !strings.Contains(shown, "It has not begun") {
		s.t.Errorf("keyd replace shows:\n%s", shown)
	}
	s.wantOld(13)
}

// wantOld requires how many consumers use a version of the old key.
func (s *story) wantOld(n int) {
	s.t.Helper()
	var old []string
	for name, c := range s.described() {
		if strings.Contains(c.InUse, "/keys/"+data+"/") {
			old = append(old, name)
		}
	}
	if slices.Sort(old); len(old) != n {
		s.t.Errorf("%d consumers use the old key, not %d: %v", len(old), n, old)
	}
}

func (s *story) replace() {
	s.whileLiving(func() {
		s.must("replace", data, "--with", cleanKey, "--vault", "clean", "--yes", "--reason", "a backup was stolen")
		s.awaitFor(4*patience, "keyd has moved everyone", func() bool {
			for _, c := range s.described() {
				if strings.Contains(c.InUse, "/keys/"+data+"/") || len(c.Previous) > 0 {
					return false
				}
			}
			return true
		})
	})
	for name, c := range s.described() {
		host := cleanHost
		if name == "ai" {
			host = loggedHost
		}
		if strings.Contains(c.InUse, "/keys/"+cleanKey) && !strings.HasPrefix(c.InUse, "https://"+host) {
			s.t.Errorf("%s uses %s, not in %s", name, c.InUse, host)
		}
	}
	s.wantEnabled(loggedHost, data, false, true, true)
	s.mustLive()
}

func (s *story) consent() {
	if r := s.replacement("--disable", "--yes", "--reason", "too early"); r.MayConsent || r.Consent != nil {
		s.t.Errorf("before the log shows everyone: %+v", r)
	}
	s.stop()
	s.pass(40 * time.Minute) // until their calls are in the log, and keyd counts on it
	s.mustLive()
	s.start()
	s.awaitProof()
	s.awaitLooking("everyone is seen to work under the new key", func() bool {
		return s.replacement("--status").MayConsent
	})
	s.must("replace", data, "--disable", "--yes", "--reason", "all of them work")
	if r := s.replacement("--status"); r.Consent == nil || r.Waiting == "" || len(r.Versions) != 2 {
		s.t.Errorf("after the consent: %+v", r)
	}
	s.wantEnabled(loggedHost, data, false, true, true)
}

// quietAgain passes the backups, and then a day of a log that is whole.
func (s *story) quietAgain() {
	s.stop()
	s.pass(backupsFor + day)
	s.mustLive()
	s.start()
	s.awaitProof()
	s.awaitLooking("the old key waits for the log", func() bool {
		return strings.Contains(s.replacement("--status").Waiting, "the audit log of vault weu is whole only since")
	})
	s.wantEnabled(loggedHost, data, false, true, true)
	s.stop()
	s.throughADay()
	s.start()
	s.awaitProof()
}

func (s *story) replaced() {
	s.awaitLooking("keyd disables the old key", func() bool {
		return slices.Equal(s.enabled(loggedHost, data), []bool{false, false, false})
	})
	s.await("the replacement is over", func() bool { return !s.replacement("--status").Done.IsZero() })
	s.mustLive()
	if shown := s.must("status", data); !strings.Contains(shown, "replaced by "+cleanKey) {
		s.t.Errorf("keyd status shows:\n%s", shown)
	}
	s.stop()
}
