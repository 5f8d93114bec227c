package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/status"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

// everyKill is set by `make crashtest`; the tests of kill_test.go are the sample
// that `make test` runs.
var everyKill = flag.Bool("every-kill", false, "kill the processes at every kill point and at system calls")

// tally is the last line of `make crashtest`.
type tally struct{ named, calls, lost, doubled, tokens atomic.Int64 }

func (s *tally) String() string {
	named, calls := s.named.Load(), s.calls.Load()
	return fmt.Sprintf("crashtest: %d kill points tried (%d named, %d system calls), lost %d, doubled %d (tokens "+
		"lost by SoftHSM itself: %d)",
		named+calls, named, calls, s.lost.Load(), s.doubled.Load(), s.tokens.Load())
}

// story is one world and the kills in it.
type story struct {
	name   string
	vaults []string // nil: both
	tell   func(*crash)
}

// crash is a world during its story.
type crash struct {
	*world
	sum          *tally
	named, calls int64              // kills in this world
	copied       *softhsmtest.Token // before the last kill
}

// tokenTries is how often a story starts again because SoftHSM lost its token.
const tokenTries = 3

// The processes are killed at every boundary of every step, and at system calls. After each kill keyd does everything
// due, once.
func TestEveryKillPoint(t *testing.T) {
	if !*everyKill {
		return
	}
	var sum tally
	t.Run("stories", func(t *testing.T) {
		for _, s := range slices.Concat(namedStories(), repointStories(), replaceStories(), callStories()) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				for try := range tokenTries {
					if !s.lostToken(t, try, &sum) {
						return
					}
				}
				t.Errorf("SoftHSM lost its token %d times", tokenTries)
			})
		}
	})
	fmt.Println(&sum)
	if run := flag.Lookup("test.run"); !strings.Contains(run.Value.String(), "/") { // not only some of the stories
		sum.wantEnough(t)
	}
}

// wantEnough requires about as many kills as a run on a busy machine has. With fewer, all stories could pass and
// prove little.
func (s *tally) wantEnough(t *testing.T) {
	t.Helper()
	const named, calls = 100, 25
	if s.named.Load() < named || s.calls.Load() < calls {
		t.Errorf("%s: want at least %d named ones and %d system calls", s, named, calls)
	}
}

// lostToken runs the story and reports whether SoftHSM lost the token in it. If so, none of its kills count. Each try
// has a name of its own: testing would add "#01", and in softhsm2.conf a # in the token's path begins a comment.
func (s story) lostToken(t *testing.T, try int, sum *tally) (lost bool) {
	t.Run(fmt.Sprintf("try %d", try+1), func(t *testing.T) {
		w := newWorld(t, func(set *settings) {
			set.vaults = s.vaults
			if s.vaults == nil {
				set.vaults = []string{"weu", "mhsm"}
			}
		})
		w.env = append(w.env, "KEYD_KILL_FILE="+w.path("kill"))
		c := &crash{world: w, sum: sum}
		w.onTokenLost = func(how string) {
			if shown, ok := shows(c.copied, w.env); !ok {
				t.Fatalf("the token was lost before the kill: %s", shown)
			}
			lost = true
			sum.tokens.Add(1)
			t.Skipf("SoftHSM, not keyd, lost its token in a kill; the story starts again: %s", how)
		}
		s.tell(c)
		sum.named.Add(c.named)
		sum.calls.Add(c.calls)
	})
	return lost
}

// die makes the daemon die at the point: a running one when it is provoked, otherwise a new one during its work.
func (c *crash) die(point string, provoke func()) {
	c.t.Helper()
	if c.daemon != nil { // keyd risks at most two deaths during a login
		c.wait("the HSM side is up", func(s status.Snapshot, _ status.Key) bool { return s.HSM.Up })
	}
	c.copyToken()
	c.arm(point)
	if c.daemon == nil {
		c.startMortal()
	}
	if provoke != nil {
		provoke()
	}
	c.awaitDeath(point)
	c.named++
}

// dieInTurn makes each new daemon die at the next point of the same work.
func (c *crash) dieInTurn(points ...string) {
	c.t.Helper()
	for _, p := range points {
		c.die(p, nil)
	}
}

// copyToken copies the token before a kill, to show what SoftHSM lost.
func (c *crash) copyToken() {
	if c.token.Conf != "" {
		c.copied = c.token.Copy(c.t)
	}
}

// run is a command for the daemon, which may die during it.
func (c *crash) run(args ...string) func() {
	return func() { c.cli(args...) }
}

// elsewhen runs f on this world at another time than now, in this process, and stops everything started for it.
func (w *world) elsewhen(shift time.Duration, f func(*inside)) {
	outer, ahead := w.t, w.ahead.Load()
	ok := outer.Run("elsewhen", func(t *testing.T) {
		w.t = t
		w.later(shift)
		f(w.inside())
	})
	w.t = outer
	if !ok {
		outer.FailNow()
	}
	if shift < 0 {
		w.ahead.Store(ahead)
	}
}

// finishLater finishes a world in which some time must pass first.
func (c *crash) finishLater() {
	c.t.Helper()
	if c.daemon != nil {
		c.stop()
	}
	c.elsewhen(12*time.Minute, func(in *inside) {
		if s := in.settle(); s.Kind != plan.Idle {
			in.w.t.Errorf("after the wait, the loop ends with %s: %s", s.Kind, s.Why)
		}
	})
}

// judge stops the daemon, requires that its audit chain records every effect, and counts what was lost and
// duplicated. It expects this many versions in every vault, and one pair in the token for each of this many
// generations.
func (c *crash) judge(pairs, versions int) {
	c.t.Helper()
	if c.daemon != nil {
		c.stop()
	}
	if a := c.command("audit", "--verify", "--state", c.path("state")); a.code != 0 ||
		!strings.Contains(a.stdout, "internally consistent") {
		c.t.Errorf("keyd audit --verify: %s%s", a.stdout, a.stderr)
	}
	lost, doubled := 0, 0
	for at, s := range c.sealed {
		plain, err := c.vault[at.vault].Unwrap(keyName, at.version, "RSA-OAEP-256", s.ciphertext)
		if err != nil || sha256.Sum256(plain) != s.sum {
			lost++
		}
	}
	for _, v := range c.set.vaults {
		n := len(c.versions(v))
		lost, doubled = lost+max(0, versions-n), doubled+max(0, n-versions)
	}
	whole := map[int]bool{}
	found := c.pairs()
	c.wantAudited(found)
	for _, o := range found {
		if o.Complete && !o.Label.Pending {
			whole[o.Label.Number] = true
		}
	}
	for n := 1; n <= pairs; n++ {
		if !whole[n] {
			lost++
		}
	}
	doubled += max(0, len(found)-pairs)
	c.sum.lost.Add(int64(lost))
	c.sum.doubled.Add(int64(doubled))
	if lost+doubled > 0 {
		text, _ := json.Marshal(found)
		c.t.Errorf("lost %d, doubled %d: %d pairs and %d versions in each vault were due; pairs: %s; versions: "+
			"%v and %v",
			lost, doubled, pairs, versions, text, c.versions("weu"), c.versions("mhsm"))
	}
}

var abandonedID = regexp.MustCompile(`"event":"id abandoned".*?"id":"([0-9a-f]{32})"`)

// abandoned returns an id that the record has abandoned.
func (c *crash) abandoned() key.ID {
	c.t.Helper()
	for _, line := range strings.Split(c.must("audit", "--json"), "\n") {
		if m := abandonedID.FindStringSubmatch(line); m != nil {
			return key.ID(m[1])
		}
	}
	c.t.Fatal("the audit shows no abandoned id")
	return ""
}

// plant puts a pair into the token under the id, pending as a crash leaves it.
func (c *crash) plant(id key.ID) {
	c.t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		c.t.Fatal(err)
	}
	spki, err1 := x509.MarshalPKIXPublicKey(&private.PublicKey)
	pkcs8, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err1, err2); err != nil {
		c.t.Fatal(err)
	}
	c.write("public.der", string(spki))
	c.write("private.der", string(pkcs8))
	label := key.Label{Instance: c.instance(), Key: keyName, Number: 2, Pending: true}
	for file, kind := range map[string]string{"public.der": "pubkey", "private.der": "privkey"} {
		cmd := exec.Command("pkcs11-tool", "--module", c.token.Module, "--token-label", c.token.Label, "--login",
			"--pin", "env:TOKEN_PIN",
			"--write-object", c.path(file), "--type", kind, "--id", string(id), "--label", label.String())
		cmd.Env = append(slices.Clone(c.env), "TOKEN_PIN="+c.token.PIN)
		if out, err := cmd.CombinedOutput(); err != nil {
			c.t.Fatalf("pkcs11-tool: %v: %s (install it with: apt-get install opensc)", err, out)
		}
	}
	for _, file := range []string{"public.der", "private.der"} {
		if err := os.Remove(c.path(file)); err != nil {
			c.t.Fatal(err)
		}
	}
}

// swept waits until the audit records this many destructions.
func (c *crash) swept(n int) {
	c.t.Helper()
	err := poll(patience, func() bool { return c.destructions() >= n }, c.daemon.ended)
	if err != nil {
		c.t.Fatalf("the pair planted under an abandoned id was not destroyed: %v", err)
	}
}

func (c *crash) destructions() int {
	return strings.Count(c.must("audit"), "abandoned pair destroyed")
}

// well waits until nothing is under way and the key is well.
func (c *crash) well() {
	c.t.Helper()
	c.wait("the key is well", func(_ status.Snapshot, k status.Key) bool { return k.State == status.StateOK })
}

// retireAfter gives the key a retire rule.
func (w *world) retireAfter(age string) {
	w.t.Helper()
	text, err := os.ReadFile(w.path("keyd.yaml"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(
		"keyd.yaml",
		strings.Replace(
			string(text),
			"    floor: 0s\n",
			"    floor: 0s\n    consumers: none\n    retire: {disable_after: "+age+", pause: 1m}\n",
			1,
		),
	)
}
