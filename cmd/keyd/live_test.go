package main

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

func TestLiveViewRedrawsOneLinePerKeyWithinTheWidth(t *testing.T) {
	var out strings.Builder
	l := newLive(&out, style{}, 40, []control.Accepted{{Key: "a"}, {Key: "b", Joined: true}})
	l.begun = at(0)
	l.now = func() time.Time { return at(3 * time.Second) }
	l.draw()
	l.saw(status.Event{Key: "a", Generation: 2, Step: "import", Phase: status.Failed, Vault: "contoso-weu", Error: "403\nforbidden"})
	l.draw()
	got := out.String()
	if strings.Count(got, "\n") != 4 || strings.Count(got, "\x1b[2A") != 1 {
		t.Errorf("two drawings of two lines, the second over the first, are not %q", got)
	}
	for line := range strings.Lines(got) {
		text := strings.TrimSpace(regexp.MustCompile(`\x1b\[\d+[AK]`).ReplaceAllString(line, ""))
		if utf8.RuneCountInString(text) >= 40 {
			t.Errorf("%q would wrap", text)
		}
	}
	if !strings.Contains(got, "a  3.0 s  generation 2  import  contos…") {
		t.Errorf("no cut line of the import in %q", got)
	}
}

func TestLiveLineStopsItsClockWhenItsKeyIsDone(t *testing.T) {
	l := newLive(&strings.Builder{}, style{}, 80, []control.Accepted{{Key: "a"}})
	l.begun = at(0)
	now := at(3 * time.Second)
	l.now = func() time.Time { return now }
	l.saw(status.Event{Key: "a", Step: "finish", Phase: status.Done})
	now = at(time.Hour)
	if got := l.line("a"); got != "a  3.0 s  finish  done" {
		t.Errorf("%q", got)
	}
}

func TestDurationsInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "now", time.Second: "in 1 second", -90 * time.Second: "1 minute ago",
		49 * time.Hour: "in 2 days", -800 * 24 * time.Hour: "2 years ago",
	} {
		if got := when(at(0), at(d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := when(at(0), time.Time{}); got != "never" {
		t.Errorf("the zero time: %q", got)
	}
}

func TestNothingShownMovesTheCursor(t *testing.T) {
	if got := clean("a\x1b[2Jb\rc\nd"); got != "a\uFFFD[2Jb\uFFFDc\nd" {
		t.Errorf("%q", got)
	}
}
