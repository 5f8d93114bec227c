package web

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

func number(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestATimelineIsDrawnToScale(t *testing.T) {
	k := rotated("k", 2, days(100), at.Add(-days(50))) // from 150 days ago to 50 ahead
	tl := drawTimeline(at, k, cardLanes)
	if len(tl.Lanes) != 2 || tl.Lanes[0].Number != 2 || tl.Lanes[1].Number != 1 {
		t.Fatalf("lanes %+v", tl.Lanes)
	}
	near := func(what, got string, part float64) {
		t.Helper()
		if want := edge + part*(100-2*edge); math.Abs(number(t, got)-want) > 0.1 {
			t.Errorf("%s is at %s %%, want %.2f", what, got, want)
		}
	}
	near("now", tl.Now.X, 0.75)
	near("the next rotation", tl.Due.X, 1)
	near("the second rotation", tl.Lanes[0].Rotation.X, 0.5)
	older := tl.Lanes[1].Bars // it was being made for a minute
	if last := older[len(older)-1]; last.State != key.Deactivated {
		t.Errorf("bars %+v", older)
	} else {
		near("its deactivation", last.X, 0.5)
	}
}

func TestATimelineNeverLeavesItsBox(t *testing.T) {
	early := rotated("early", 3, days(1), at.Add(days(20))) // by a clock that ran ahead
	far := rotated("far", 1, days(36500), at.Add(-time.Minute))
	none := status.Key{Name: "none"}
	for _, k := range append(everyTrouble().Keys, early, far, none) {
		tl := drawTimeline(at, k, pageLanes)
		marks := []string{tl.Now.X}
		if tl.Due != nil {
			marks = append(marks, tl.Due.X)
		}
		for _, l := range tl.Lanes {
			for _, b := range l.Bars {
				if x, w := number(t, b.X), number(t, b.W); x < 0 || w <= 0 || x+w > 100 {
					t.Errorf("%s, generation %d: a bar from %v over %v", k.Name, l.Number, x, w)
				}
			}
		}
		for _, x := range marks {
			if v := number(t, x); v < 0 || v > 100 {
				t.Errorf("%s: a mark at %v", k.Name, v)
			}
		}
	}
	if tl := drawTimeline(at, far, cardLanes); !tl.Due.Beyond || !strings.Contains(tl.Due.Label, "2126") {
		t.Errorf("a century ahead: %+v", tl.Due)
	}
}

func TestATimelineDescribesItsDrawingInWords(t *testing.T) {
	k := rotated("k", 5, days(90), at.Add(-days(24)))
	k.Generations[3].State, k.Generations[3].Compromised = key.Compromised, at.Add(-days(2))
	got := drawTimeline(at, k, cardLanes).Desc
	want := "Generation 5: active since 1 Nov 2026. Generation 4: compromised since 23 Nov 2026. Generation 3: " +
		"deactivated since 3 Aug 2026. 2 older generations not shown. Next rotation 30 Jan 2027, in 2 months."
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	k.NextRotation = at.Add(-2 * time.Hour)
	if tl := drawTimeline(at, k, cardLanes); !tl.Due.Overdue ||
		!strings.Contains(tl.Desc, "Rotation overdue since 25 Nov 07:41 UTC") {
		t.Errorf("overdue: %+v, %s", tl.Due, tl.Desc)
	}
}

func TestAGenerationsStatesFollowOneAnother(t *testing.T) {
	g := generation(1, at.Add(-days(90)), key.Disabled)
	g.State, g.Deactivated = key.Suspended, at.Add(-days(60))
	for i := range g.Placements {
		g.Placements[i].DisabledAt = at.Add(-days(10))
	}
	states := func() string {
		var got []string
		for _, turn := range turnsOf(g) {
			got = append(got, string(turn.state))
		}
		return strings.Join(got, " ")
	}
	if s := states(); s != "pre-activation active deactivated suspended" {
		t.Errorf("states %s", s)
	}
	g.State, g.Compromised = key.Compromised, at.Add(-days(70)) // later events do not undo that
	if s := states(); s != "pre-activation active compromised" {
		t.Errorf("states %s", s)
	}
}

func TestAStripDistinguishesGoodBadAndUnknown(t *testing.T) {
	h := history(map[int]status.Slot{0: status.SlotUnknown, 1: status.SlotUnknown, 40: status.SlotBad,
		41: status.SlotBad, 42: status.SlotBad})
	s := drawStrip(at, h)
	if n := [3]int{strings.Count(s.Good, "M"), strings.Count(s.Bad, "M"),
		strings.Count(s.Unknown, "M")}; n != [3]int{91, 3, 2} {
		t.Errorf("good, bad, unknown: %v", n)
	}
	want := "Last 24 h: well for 22 h 45 min, in trouble for 45 min (last at 20:25 UTC), nothing known of 30 min"
	if s.Words != want {
		t.Errorf("%s\nwant\n%s", s.Words, want)
	}
	if drawStrip(at, nil) != nil || drawStrip(at, new(status.History)) != nil {
		t.Error("a strip of no history")
	}
	h = history(nil)
	if got := stripWords(at, h); got != "Well throughout the last 24 h" {
		t.Error(got)
	}
	for i := range h.Slots {
		h.Slots[i] = status.SlotUnknown
	}
	if got := stripWords(at, h); got != "Nothing is known of the last 24 h" {
		t.Error(got)
	}
}

// A slot of a strip takes 15 minutes. Trouble that took less is neither called nor drawn as long as that.
func TestAStripSaysAndShowsHowLongTroubleReallyWas(t *testing.T) {
	h := history(map[int]status.Slot{40: status.SlotBad})
	h.Bad[40] = 30
	s := drawStrip(at, h)
	if want := "Last 24 h: well for 23 h 59 min, in trouble for 30 s (last at 19:55 UTC)"; s.Words != want {
		t.Errorf("%s\nwant\n%s", s.Words, want)
	}
	if s.Bad != "M40 0h0.30v12h-0.30z" {
		t.Errorf("drawn as %s", s.Bad)
	}
}

func TestTimesAreShownInTheZoneOfThePage(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := at.In(berlin) // 10:41
	for got, want := range map[string]string{
		clock(now, at.Add(-10*time.Hour)):                         "00:41:00 CET", // yesterday in UTC
		clock(now, at.Add(-11*time.Hour)):                         "24 Nov 23:41:00 CET",
		day(now, at.Add(-time.Hour)):                              "25 Nov 09:41 CET",
		day(now, time.Date(2026, 7, 31, 23, 0, 0, 0, time.UTC)):   "1 Aug 2026",
		stamp(now, time.Date(2026, 7, 31, 23, 0, 0, 0, time.UTC)): "1 Aug 2026 01:00:00 CEST",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// labels are a scale's labels, in their order.
func labels(s scale, zone *time.Location) string {
	var all []string
	for _, tick := range s.ticks(zone) {
		if tick.Label != "" {
			all = append(all, tick.Label)
		}
	}
	return strings.Join(all, ", ")
}

func TestAScaleHasLabelsAtRoundTimesOfItsZone(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		span time.Duration
		zone *time.Location
		want string
	}{
		{15 * time.Second, time.UTC, "09:41:00 UTC, 09:41:05, 09:41:10, 09:41:15"},
		{20 * time.Second, time.UTC, "09:41:05 UTC, 09:41:10, 09:41:15"}, // those at the ends would meet them
		{3 * time.Minute, time.UTC, "09:41 UTC, 09:42, 09:43, 09:44"},
		{days(1), time.UTC, "12:00 UTC, 18:00, 26 Nov, 06:00"},
		{days(1), berlin, "12:00 CET, 18:00, 26 Nov, 06:00"},
		{days(25), time.UTC, "2 Dec, 9 Dec, 16 Dec"},
		{days(100), time.UTC, "Dec 2026, Jan 2027, Feb 2027, Mar 2027"},
		{days(365), time.UTC, "Jan 2027, Apr 2027, Jul 2027, Oct 2027"},
		{days(7300), time.UTC, "2030, 2035, 2040, 2045"},
		{days(365 * 250), time.UTC, "2100, 2200"},
	} {
		if got := labels(scale{at, at.Add(c.span)}, c.zone); got != c.want {
			t.Errorf("over %s in %s: %s; want %s", c.span, c.zone, got, c.want)
		}
	}
}

// At the end of summer time an hour comes twice: the scale goes on.
func TestAScaleOverAClockChangeKeepsItsOrder(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 10, 24, 21, 40, 0, 0, time.UTC)
	if got, want := labels(scale{from, from.Add(4 * time.Hour)}, berlin), "25 Oct, 01:00 CEST, 02:00"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// colours reads the custom properties of the two colour schemes.
func colours(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	css, err := os.ReadFile("pages/style.css")
	if err != nil {
		t.Fatal(err)
	}
	var schemes []map[string]string
	for _, root := range regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), -1) {
		scheme := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(root[1], -1) {
			scheme[m[1]] = m[2]
		}
		schemes = append(schemes, scheme)
	}
	if len(schemes) != 2 || len(schemes[0]) != len(schemes[1]) || len(schemes[0]) < 10 {
		t.Fatalf("schemes %v", schemes)
	}
	if n := len(regexp.MustCompile(`#[0-9a-f]{3,8}\b`).FindAll(css, -1)); n != 2*len(schemes[0]) {
		t.Errorf("%d colours in the style, and %d with a name: give each a name, so that its contrast is known",
			n, 2*len(schemes[0]))
	}
	return schemes[0], schemes[1]
}

// luminance is the relative luminance of a colour (WCAG 2.2).
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	rgb, err := strconv.ParseUint(colour[1:], 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// contrast is the contrast ratio of two colours (WCAG 2.2), from 1 to 21.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestContrastIsEnoughInBothSchemes(t *testing.T) {
	light, dark := colours(t)
	grounds := []string{"page", "card", "bad-wash", "warn-wash"}
	for name, scheme := range map[string]map[string]string{"light": light, "dark": dark} {
		for _, ground := range grounds {
			for _, text := range []string{"ink", "quiet", "link", "bad", "warn"} {
				if c := contrast(t, scheme[text], scheme[ground]); c < 4.5 {
					t.Errorf("%s: text %s on %s has contrast %.2f, less than 4.5", name, text, ground, c)
				}
			}
		}
		for _, ground := range []string{"page", "card"} {
			for _, drawn := range []string{"well", "bad", "warn", "busy", "past", "ink"} {
				if c := contrast(t, scheme[drawn], scheme[ground]); c < 3 {
					t.Errorf("%s: the drawing's %s on %s has contrast %.2f, less than 3", name, drawn, ground, c)
				}
			}
		}
		// Text in a mark, the diamond's rim, and the count.
		for _, pair := range [][2]string{{"card", "well"}, {"card", "bad"}, {"card", "warn"}} {
			if c := contrast(t, scheme[pair[0]], scheme[pair[1]]); c < 3 {
				t.Errorf("%s: %s on %s has contrast %.2f, less than 3", name, pair[0], pair[1], c)
			}
		}
		if c := contrast(t, scheme["page"], scheme["ink"]); c < 4.5 {
			t.Errorf("%s: the count has contrast %.2f", name, c)
		}
	}
}
