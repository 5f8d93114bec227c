package hsm

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// counting are limits whose clock and token a test has.
type counting struct {
	*limits
	t     *testing.T
	at    time.Time
	token []key.Object
}

func newCounting(t *testing.T) *counting {
	t.Helper()
	c := &counting{t: t, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	c.open(t.TempDir())
	return c
}

func (c *counting) open(dir string) {
	c.t.Helper()
	var err error
	if c.limits, err = newLimits(dir); err != nil {
		c.t.Fatal(err)
	}
	c.now = func() time.Time { return c.at }
	c.shown(c.token)
}

// has puts a pair on the token.
func (c *counting) has(number int, pending bool) key.ID {
	id := newID(c.t)
	c.token = append(c.token, key.Object{ID: id, Complete: true, Label: labelOf(number, pending)})
	c.shown(c.token)
	return id
}

func labelOf(number int, pending bool) key.Label {
	return key.Label{Instance: "test", Key: "sa-cmk-key", Number: number, Pending: pending}
}

// makes makes a pair, as Generate does.
func (c *counting) makes(number int, may KeyRights) (key.ID, error) {
	c.t.Helper()
	id := newID(c.t)
	if err := c.reserve(id, labelOf(number, true), may); err != nil {
		return "", err
	}
	if err := c.settle(id, labelOf(number, true), nil); err != nil {
		c.t.Fatal(err)
	}
	c.token = append(c.token, key.Object{ID: id, Complete: true, Label: labelOf(number, true)})
	return id, nil
}

func (c *counting) wantMade(number int, may KeyRights) key.ID {
	c.t.Helper()
	id, err := c.makes(number, may)
	if err != nil {
		c.t.Errorf("number %d: %v", number, err)
	}
	return id
}

func (c *counting) wantRefused(number int, may KeyRights) {
	c.t.Helper()
	if _, err := c.makes(number, may); !IsCode(err, NotPermitted) {
		c.t.Errorf("number %d: %v, want it refused", number, err)
	}
}

func TestANumberIsNearTheHighestPlacedOne(t *testing.T) {
	c := newCounting(t)
	c.has(7, false)
	c.has(9, true) // never wrapped, so it moves nothing
	c.wantRefused(6, KeyRights{})
	c.wantRefused(7+maxAhead+1, KeyRights{})
	c.wantMade(7+maxAhead, KeyRights{})
	c.wantMade(8, KeyRights{})
}

// After the highest number that there is no other could follow, so the key could never be rotated again.
func TestNoNumberIsSoHighThatNoneCouldFollow(t *testing.T) {
	c := newCounting(t)
	c.wantRefused(math.MaxInt, KeyRights{})
	c.wantRefused(mostNumber+1, KeyRights{})
	c.wantMade(mostNumber, KeyRights{})
}

// The record of a key outlives the token, and goes on counting on a new one.
func TestOnANewTokenAnOldRecordGoesOnCounting(t *testing.T) {
	c := newCounting(t)
	c.wrapped(c.wantMade(81, KeyRights{}), labelOf(81, true))
	c.wantMade(82, KeyRights{})
	c.wantRefused(80, KeyRights{})
}

func TestFewPairsOfADayAreNeverWrapped(t *testing.T) {
	c := newCounting(t)
	may := KeyRights{Spares: 2, Budget: 100}
	var ids []key.ID
	for n := range maxPending + may.Spares {
		ids = append(ids, c.wantMade(n+1, may))
	}
	c.wantRefused(9, may)
	c.wrapped(ids[0], labelOf(1, true))
	c.wantMade(9, may)
	c.wantRefused(10, may)
	c.at = c.at.Add(day)
	c.wantMade(10, may)
}

func TestAPairThatWasAbandonedAndSweptDoesNotCount(t *testing.T) {
	c := newCounting(t)
	may := KeyRights{Budget: 100}
	for range 5 {
		c.looked(c.wantMade(1, may), nil) // the sweeper destroyed it
	}
	for range 5 { // tries that fail make none
		id := newID(t)
		if err := c.reserve(id, labelOf(1, true), may); err != nil {
			t.Fatal(err)
		}
		if err := c.settle(id, labelOf(1, true), newError(Device, key.Retry, "the token was busy")); err != nil {
			t.Fatal(err)
		}
	}
	c.wantMade(1, may)
}

func TestTheUnwrappedPairsOfAllDaysAreBounded(t *testing.T) {
	c := newCounting(t)
	for range maxUnwrapped {
		c.wantMade(1, KeyRights{})
		c.at = c.at.Add(day)
	}
	c.wantRefused(1, KeyRights{})
	c.wantMade(1, KeyRights{Spares: 1})
}

// A part of an HSM that lags behind may show a pair as it was before its first wrap, or not at all.
func TestAListingThatLagsBehindLowersNoLimit(t *testing.T) {
	c := newCounting(t)
	c.has(7, false)
	id := c.wantMade(8, KeyRights{})
	c.wrapped(id, labelOf(8, true))
	c.shown(c.token) // with number 8 as pending
	c.wantRefused(7, KeyRights{})
	for range maxPending {
		c.wantMade(9, KeyRights{})
	}
	c.shown(nil)
	c.wantRefused(7, KeyRights{})
}

func TestThePairsOfADayAreBoundedAcrossARestart(t *testing.T) {
	c := newCounting(t)
	may := KeyRights{Budget: 1, Spares: 100}
	for range mostMade(may) {
		c.looked(c.wantMade(1, may), nil)
	}
	c.wantRefused(1, may)
	c.token = nil
	c.open(filepath.Dir(c.made.path))
	c.wantRefused(1, may)
	c.at = c.at.Add(day)
	c.wantMade(1, may)
}

func TestTheLimitsOfOneKeyAreNotThoseOfAnother(t *testing.T) {
	c := newCounting(t)
	c.has(7, false)
	for range maxPending {
		c.wantMade(8, KeyRights{})
	}
	other := key.Label{Instance: "test", Key: "other-key", Number: 1, Pending: true}
	if err := c.reserve(newID(t), other, KeyRights{}); err != nil {
		t.Error(err)
	}
}

func TestAnIDThatHasAPairIsNotReservedAgain(t *testing.T) {
	c := newCounting(t)
	id := c.has(1, true)
	err := c.reserve(id, labelOf(1, true), KeyRights{})
	wantCode(t, err, Exists, key.Refused)
	if c.labels[id] != labelOf(1, true) {
		t.Errorf("the pair is remembered as %v", c.labels[id])
	}
}

func TestADamagedNoteOfTheDayIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/made-pairs.jsonl", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newLimits(dir); err == nil || !strings.Contains(err.Error(), "made-pairs.jsonl") {
		t.Error(err)
	}
}

// The same over the real token: the process that makes the pairs has just started, so it looks first.
func TestTheFirstGenerationAfterAStartKnowsTheToken(t *testing.T) {
	tight := permit(map[string]VaultRights{vaultURL: {FirstUse: true}},
		map[string]KeyRights{"sa-cmk-key": {Vaults: []string{vaultURL}}})
	e := onVendors(t, &vendors{})
	e.permitted = always(tight)
	id := mustGenerate(t, e)
	kek, _ := newKEK(t, vaultURL)
	if _, err := e.WrapFor(t.Context(), id, kek); err != nil {
		t.Fatal(err)
	}
	next := restarted(t, e)
	err := next.Generate(t.Context(), newID(t), "sa-cmk-key", 2+maxAhead, key.RSA2048, "")
	wantCode(t, err, NotPermitted, key.Refused)
	for range maxPending {
		if err := next.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, ""); err != nil {
			t.Error(err)
		}
	}
	err = next.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, "")
	wantCode(t, err, NotPermitted, key.Refused)
}
