package record_test

import (
	"slices"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// moment is now by both clocks.
func (b *book) moment() record.Moment { return record.Moment{Here: b.clock, There: b.clock} }

func TestOnlyOneDisablingOfAKeyIsOpen(t *testing.T) {
	b := newBook(t).rotate().rotate()
	b.ok(b.BeginDisable(attempt(1), version(1), b.moment()))
	refused(t, b.BeginDisable(attempt(2), version(2), b.moment()), "another disabling of k is open")
	b.ok(b.BeginDisable(attempt(1), version(1), b.moment())) // again
	if open := b.OpenDisabling(); open.Attempt != attempt(1) {
		t.Errorf("open: %+v", open)
	}
	b.ok(b.AbortDisable(attempt(1)))
	b.ok(b.BeginDisable(attempt(2), version(2), b.moment()))
}

// A record of an earlier keyd names no version: that keyd disabled all of a placement at once.
func TestADisablingOfAnEarlierKeydIsOfAllVersions(t *testing.T) {
	b := twins(t)
	at := b.Placement(attempt(1))
	at.State, at.DisableBegun = key.Disabling, b.clock
	if open := b.Disablings(weu); len(open) != 1 || !slices.Equal(open[0].Versions, []string{version(1), version(9)}) {
		t.Fatalf("open: %+v", open)
	}
	if b.ok(b.Disable(attempt(1), b.clock, nil)); at.State != key.Disabled {
		t.Errorf("in the end it is %s", at.State)
	}
}

func TestAConsentCoversWhatItListsAndWhatIsSupersededLater(t *testing.T) {
	b := newBook(t).rotate().rotate()
	first := b.Retirable(weu)[0]
	for name, c := range map[string]struct {
		consent record.Consent
		want    bool
	}{
		"it lists the version":             {record.Consent{At: b.clock, Versions: []string{version(1)}}, true},
		"it does not list it":              {record.Consent{At: b.clock}, false},
		"the version was superseded later": {record.Consent{At: first.Since.Add(-time.Second)}, true},
	} {
		if got := c.consent.Covers(first); got != c.want {
			t.Errorf("%s: covered %v", name, got)
		}
	}
	rule := key.RetireRule{DisableAfter: time.Hour}
	b.Consent = &record.Consent{Rule: rule}
	for name, other := range map[string]key.RetireRule{
		"another time":           {DisableAfter: 2 * time.Hour},
		"another pause":          {DisableAfter: time.Hour, Pause: time.Minute},
		"nobody to wait for":     {DisableAfter: time.Hour, NoConsumers: true},
		"others to wait for":     {DisableAfter: time.Hour, Watched: "sha256:1"},
		"a log that may be busy": {DisableAfter: time.Hour, UnusedFor: time.Minute},
		"backups that end":       {DisableAfter: time.Hour, Backups: time.Minute},
	} {
		if b.ConsentsTo(other) {
			t.Errorf("%s: the consent covers another rule", name)
		}
	}
	if !b.ConsentsTo(rule) {
		t.Error("the consent does not cover its rule")
	}
	if !b.EndConsent() || b.EndConsent() || b.ConsentsTo(rule) {
		t.Error("a consent ends once")
	}
}

func TestAnOperatorsRequestEnablesOneVersionAndEndsTheConsent(t *testing.T) {
	ask := func(b *book, v string) *book {
		b.Consent = &record.Consent{Rule: b.policy.Retire}
		had, err := b.AskEnable(record.Enabling{Attempt: attempt(1), Version: v, At: b.clock})
		if !had || b.Consent != nil || len(b.Enabling) != 1 {
			t.Errorf("had a consent %v, has one %v, requests %v", had, b.Consent != nil, b.Enabling)
		}
		return b.ok(err)
	}
	disabled := func() *book {
		b := twins(t)
		for _, v := range []string{version(1), version(9)} {
			b.ok(b.BeginDisable(attempt(1), v, b.moment())).ok(b.Disable(attempt(1), b.clock, nil))
		}
		return b
	}
	b := ask(disabled(), version(9))
	b.ok(b.Enabled(attempt(1), version(9)))
	at := b.Placement(attempt(1))
	if left := at.Enabled(); at.State != key.Superseded || !slices.Equal(left, []string{version(9)}) ||
		!at.DisabledAt.IsZero() || len(b.Enabling) > 0 {
		t.Errorf("it is %+v, enabled %v", at.Placement, left)
	}
	refused(t, b.Enabled(attempt(1), version(9)), "nobody asked")

	open := twins(t)
	open.ok(open.BeginDisable(attempt(1), version(1), open.moment()))
	ask(open, version(1)).ok(open.Enabled(attempt(1), version(1)))
	if at := open.Placement(attempt(1)); at.State != key.Superseded || len(at.DisabledVersions) > 0 {
		t.Errorf("what undoes an open disabling leaves %+v", at.Placement)
	}

	gone := ask(disabled(), version(1))
	gone.LoseVersion(attempt(1))
	if len(gone.Enabling) > 0 {
		t.Error("a version that is gone is still to be enabled")
	}
	_, err := gone.AskEnable(record.Enabling{Attempt: attempt(1), Version: version(1)})
	refused(t, err, "has no version")
}
