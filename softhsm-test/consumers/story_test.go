//go:build consumers

package consumers

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/emulator/arm"
	"github.com/keyd-project/keyd/internal/status"
)

// Two keys: the vault of data has an audit log, so every kind of service can live there. That of plain has none, and
// only services that show what they use can leave a version.
const data, plain = "data", "plain"

const (
	day = 24 * time.Hour
	// backupsFor is longer than any service here keeps a backup.
	backupsFor = 8 * day
)

// story is one run, scene by scene: each begins where the one before ended.
type story struct {
	*world
	keys string // of the configuration
}

var sample = flag.Bool("sample", false, "end before the compromise")

func scenes() []scene {
	if *sample {
		return lives()
	}
	return slices.Concat(lives(), replaces())
}

// lives is how consumers live under a key.
func lives() []scene {
	return []scene{
		{"consumers of every kind take the first version, write and read", (*story).begin},
		{"they write and read while keyd rotates, and keyd moves the pinned ones: one by itself, one when told to",
			(*story).rotate},
		{"the others follow, each at its service's pace", (*story).follow},
		{"one that lags holds up retiring, and keyd retire and keyd status name it", (*story).lagging},
		{"one that lies is betrayed by the vault's log", (*story).lying},
		{"one that keyd cannot see holds up retiring, though the time is over", (*story).unseen},
		{"once everyone is seen on the new version, keyd disables the old one", (*story).retirePlain},
		{"where a service shows no version, keyd waits until the log is quiet for long enough", (*story).quiet},
		{"a SQL server that lists the version among its keys holds it up until somebody deletes it there",
			(*story).serverKeys},
		{"keyd disables that version too, and nobody loses anything", (*story).retireData},
		{"they live through another rotation", (*story).rotateAgain},
		{"when every backup is gone, they read everything that they ever wrote", (*story).end},
	}
}

// replaces is what follows a compromise.
func replaces() []scene {
	return []scene{
		{"the key is compromised: keyd names who cannot leave the vault, and what to write for the new key",
			(*story).compromised},
		{"keyd sets every consumer to the new key, one after the other, while they write and read", (*story).replace},
		{"nobody may consent to disable the old key before each of them is seen to work", (*story).consent},
		{"the old key stays enabled while a backup could need it, and until its log was quiet for long enough",
			(*story).quietAgain},
		{"keyd disables every version of the old key, and nobody loses anything", (*story).replaced},
	}
}

type scene struct {
	shows string
	play  func(*story)
}

func TestConsumers(t *testing.T) {
	t.Parallel()
	s := &story{world: newWorld(t)}
	for _, scene := range scenes() {
		began := time.Now()
		scene.play(s)
		if t.Failed() {
			t.Fatalf("FAIL  %s", scene.shows)
		}
		fmt.Printf("ok    %s (%.0f s)\n", scene.shows, time.Since(began).Seconds())
	}
	verdict = s.judge()
	if verdict.total() > 0 || verdict.kinds != allKinds {
		t.Errorf("not every kind kept everything: %v", verdict.err())
	}
}

// verdict is the last line.
var verdict judgement

// allKinds is how many kinds of service the emulator has.
const allKinds = 12

func (s *story) begin() {
	s.add(loggedHost, data, "storage=st", "scope=st/sc", "storage=liar", "cosmos=db", "disk=des", "ai=ai", "sql=sql",
		"sqldb=sql/own", "sqlmi=mi", "acr=acr", "eventhubs=hubs", "postgres=pg", "mysql=my")
	s.add(unloggedHost, plain, "storage=quick", "storage=lags", "disk=hidden")
	withData := s.listed("st", "liar", "db", "des", "ai@", "sql", "mi", "acr", "hubs", "pg", "my")
	withPlain := s.listed("quick", "lags", "hidden")
	s.keys = fmt.Sprintf(keySection, data, "weu", withData,
		fmt.Sprintf("disable_after: 1d, unused_for: 1d, backups: %dd", backupsFor/day)) +
		fmt.Sprintf(keySection, plain, "neu", withPlain, "disable_after: 1d")
	s.write("keyd.yaml", s.configuration(s.keys))
	s.start()
	s.awaitGeneration(1)
	s.await("all consumers take their key", func() bool { return len(s.untaken()) == 0 })
	s.mustLive()
}

func (s *story) rotate() {
	s.lag("lags", true)
	s.lag("liar", true)
	s.whileLiving(func() {
		s.rotateBoth("drill")
		s.awaitGeneration(2)
		s.awaitPinned(2)
	})
	if err := s.azure.Claim("liar", s.version(loggedHost, data, 2)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) rotateBoth(reason string) {
	s.t.Helper()
	s.must("rotate", "--now", data, plain, "--yes", "--reason", reason, "--timeout", "80s")
}

// awaitPinned waits until keyd has moved the consumers that follow no version by themselves: one because the
// configuration says so, and one because an operator asks for it.
func (s *story) awaitPinned(n int) {
	s.t.Helper()
	to := s.version(loggedHost, data, n)
	s.await("keyd moves the pinned consumer", func() bool { return slices.Contains(s.on(to), "ai") })
	if slices.Contains(s.on(to), "my") {
		s.t.Error("keyd moved a consumer that nobody asked it to move")
	}
	s.must("repoint", data, "my", "--reason", "drill")
	s.await("keyd moves the other one", func() bool { return slices.Contains(s.on(to), "my") })
}

// follow passes the day in which every service has looked for a new version.
func (s *story) follow() {
	s.stop()
	s.pass(day + time.Hour)
	s.awaitOn(data, loggedHost, 2, "liar")
	s.awaitOn(plain, unloggedHost, 2, "lags")
	s.mustLive()
}

// awaitOn waits until all consumers of a key but one use its nth version.
func (s *story) awaitOn(key, host string, n int, but string) {
	s.t.Helper()
	version, of := s.version(host, key, n), "https://"+host+"/"
	s.await("they follow", func() bool {
		for name, c := range s.described() {
			if strings.HasPrefix(c.InUse, of) && name != but &&
				(!strings.HasSuffix(c.InUse, "/"+version) || len(c.Previous) > 0) {
				return false
			}
		}
		return true
	})
}

func (s *story) lagging() {
	s.start()
	s.awaitProof()
	for _, key := range []string{data, plain} {
		s.must("retire", key, "--yes", "--reason", "as shown")
	}
	s.awaitWaiting(plain, "storage account lags uses version "+s.version(unloggedHost, plain, 1))
	text := s.must("status", plain)
	if !strings.Contains(text, "uses generation 1, not 2") {
		s.t.Errorf("keyd status does not show who is behind:\n%s", text)
	}
	s.wantEnabled(loggedHost, data, true, true)
	s.wantEnabled(unloggedHost, plain, true, true)
	s.lag("lags", false)
	s.awaitOn(plain, unloggedHost, 2, "")
}

// awaitWaiting waits until `keyd retire` says that the next disabling waits for this.
func (s *story) awaitWaiting(key, text string) {
	s.t.Helper()
	s.awaitLooking("keyd waits because "+text, func() bool {
		return strings.Contains(s.retirement(key).Waiting, text)
	})
}

func (s *story) wantEnabled(host, key string, want ...bool) {
	s.t.Helper()
	if got := s.enabled(host, key); !slices.Equal(got, want) {
		s.t.Errorf("%s in %s: enabled are %v, not %v", key, host, got, want)
	}
}

// lying: Resource Manager shows the new version, and the consumer still uses the old one, as the log says.
func (s *story) lying() {
	if err := s.put("liar"); err != nil {
		s.t.Fatal(err)
	}
	s.stop()
	s.pass(40 * time.Minute) // until that is in the log, and keyd counts on it
	s.start()
	s.awaitProof()
	s.awaitWaiting(data, "shows a use of the version, or one without a version, by "+s.described()["liar"].Identity)
	if shown := s.consumer(data, "liar"); !shown.Newest {
		s.t.Errorf("the liar does not show the new version: %+v", shown)
	}
	s.wantEnabled(loggedHost, data, true, true)
	if err := s.azure.Claim("liar", ""); err != nil {
		s.t.Fatal(err)
	}
	s.lag("liar", false)
	s.awaitOn(data, loggedHost, 2, "")
	s.mustLive()
}

// consumer is a consumer as `keyd status` shows it.
func (s *story) consumer(key, name string) status.Consumer {
	s.t.Helper()
	snap, err := s.look()
	if err != nil {
		s.t.Fatal(err)
	}
	k, _ := snap.Key(key)
	if k.Consumers != nil {
		for _, c := range k.Consumers.List {
			if c.Name == name {
				return c
			}
		}
	}
	s.t.Errorf("keyd status %s shows no consumer %s", key, name)
	return status.Consumer{}
}

func (s *story) unseen() {
	s.stop()
	s.pass(backupsFor + day) // every backup under the old versions ends
	s.mustLive()
	rule := s.emu.Fail(emulator.Rule{Operation: "resource", Key: "hidden", Status: 403, Code: "AuthorizationFailed"})
	s.start()
	s.awaitProof()
	s.awaitWaiting(plain, "disk encryption set hidden cannot be seen")
	s.wantEnabled(unloggedHost, plain, true, true)
	rule.Clear()
}

func (s *story) retirePlain() {
	s.awaitLooking("keyd disables the version of "+plain, func() bool {
		return slices.Equal(s.enabled(unloggedHost, plain), []bool{false, true})
	})
	s.mustLive()
}

// quiet passes a day with a whole log.
func (s *story) quiet() {
	s.awaitWaiting(data, "the audit log of vault weu is whole only since")
	s.stop()
	s.throughADay()
	s.wantEnabled(loggedHost, data, true, true)
}

// throughADay passes a day in which keyd proves its versions often enough to know that it sees the whole log.
func (s *story) throughADay() {
	for end := s.now().Add(day + 2*time.Hour); s.now().Before(end); {
		s.pass(90 * time.Minute)
		s.mustLive()
		s.start()
		s.awaitProof()
		s.stop()
	}
}

// serverKeys: a SQL server lists the keys that it had, and may need what it lists for a backup. Once it cannot, its
// operator takes the key out.
func (s *story) serverKeys() {
	s.start()
	s.awaitProof()
	s.awaitWaiting(data, "still needs the version")
	s.wantEnabled(loggedHost, data, true, true)
	all := s.described()
	for _, name := range []string{"sql", "mi"} {
		s.deleteResource(all[name].ID + "/keys/contoso-weu_" + data + "_" + s.version(loggedHost, data, 1))
	}
}

// deleteResource does what an operator does with az resource delete.
func (s *story) deleteResource(id string) {
	s.t.Helper()
	answer := s.azure.Handle(s.t.Context(), arm.Request{Method: http.MethodDelete, Path: id,
		Query: url.Values{"api-version": {"2025-01-01"}}})
	if answer.Status/100 != 2 {
		s.t.Fatalf("deleting %s: %+v", id, answer)
	}
}

func (s *story) retireData() {
	s.awaitLooking("keyd disables the version of "+data, func() bool {
		return slices.Equal(s.enabled(loggedHost, data), []bool{false, true})
	})
	s.mustLive()
}

func (s *story) rotateAgain() {
	s.whileLiving(func() {
		s.rotateBoth("again")
		s.awaitGeneration(3)
		s.awaitPinned(3)
	})
	s.stop()
	s.pass(day + time.Hour)
	s.awaitOn(data, loggedHost, 3, "")
	s.awaitOn(plain, unloggedHost, 3, "")
	s.mustLive()
}

func (s *story) end() {
	s.pass(backupsFor)
	s.wantEnabled(loggedHost, data, false, true, true)
	s.wantEnabled(unloggedHost, plain, false, true, true)
}
