package web

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// cardLanes and pageLanes are how many generations a timeline draws.
	cardLanes = 3
	pageLanes = 24
	// The heights of a timeline's rows, in CSS pixels.
	axisRow  = 20 // "now"
	laneRow  = 36
	scaleRow = 17
	dueRow   = 19
	barInset = 18 // of the bar in its lane
	// aheadAtMost bounds the future shown: this many times the past shown.
	aheadAtMost = 3
	// edge is the margin left and right of what is drawn, in percent.
	edge = 1.5
)

// timeline is a key's generations along time. Horizontal positions are percentages, so
// that the text keeps its size on a narrow page.
type timeline struct {
	Desc   string // all of it, in words
	Height int
	Bottom int // of the lanes; below it are the scale's labels and the next rotation's
	Scale  []tick
	Lanes  []lane
	Older  int // generations that are not drawn
	Now    mark
	Due    *due
}

// lane is one generation.
type lane struct {
	Y, TextY, BarY int
	Number         int
	Caption        string
	State          key.State
	Bars           []bar
	Rotation       *mark // when it became the newest
	Used           *used // by consumers; nil: by none that keyd sees
}

// bar is a time in one state.
type bar struct {
	X, W  string
	State key.State
	Title string
}

// mark is a point in time. Anchor is the side of its label, as text-anchor has it.
type mark struct{ X, Anchor, Title string }

// due is the next rotation.
type due struct {
	mark
	Label   string
	Overdue bool
	Beyond  bool // later than the timeline shows
}

// scale maps a span of time to percent of the width.
type scale struct{ from, to time.Time }

func (s scale) at(t time.Time) float64 {
	part := float64(t.Sub(s.from)) / float64(max(s.to.Sub(s.from), time.Second))
	return edge + min(max(part, 0), 1)*(100-2*edge)
}

func (s scale) mark(t time.Time, title string) mark {
	x := s.at(t)
	anchor := "start"
	if x > 50 {
		anchor = "end"
	}
	return mark{percent(x), anchor, title}
}

func percent(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) }

// scaleOf chooses the time span for these generations and the next rotation.
func scaleOf(now time.Time, generations []status.Generation, next time.Time) (s scale, beyond bool) {
	s = scale{now.Add(-24 * time.Hour), now}
	for i, g := range generations {
		if i == 0 || g.Reserved.Before(s.from) {
			s.from = g.Reserved
		}
	}
	if !s.from.Before(now) { // a clock that ran ahead, or all of it happened just now
		s.from = now.Add(-time.Minute)
	}
	farthest := now.Add(aheadAtMost * now.Sub(s.from))
	if next.After(farthest) {
		next, beyond = farthest, true
	}
	if next.After(s.to) {
		s.to = next
	}
	return s, beyond
}

// drawTimeline draws a key's latest generations, the newest first.
func drawTimeline(now time.Time, k status.Key, lanes int) timeline {
	shown := k.Generations[max(0, len(k.Generations)-lanes):]
	s, beyond := scaleOf(now, shown, k.NextRotation)
	t := timeline{Older: len(k.Generations) - len(shown), Now: s.mark(now, "now"),
		Bottom: axisRow + laneRow*max(1, len(shown)), Scale: s.ticks(now.Location())}
	t.Height = t.Bottom + scaleRow + dueRow
	var sentences []string
	for i, g := range slices.Backward(shown) {
		y := axisRow + laneRow*(len(shown)-1-i)
		l := lane{Y: y, TextY: y + barInset - 5, BarY: y + barInset, Number: g.Number, State: g.State,
			Caption: captionOf(now, g), Bars: barsOf(now, s, g)}
		if at := activeAt(g); !at.IsZero() {
			m := s.mark(at, fmt.Sprintf("rotated to generation %d on %s", g.Number, day(now, at)))
			l.Rotation = &m
		}
		sentences = append(sentences, fmt.Sprintf("Generation %d: %s.", g.Number, l.Caption))
		var by string
		if l.Used, by = drawUsed(now, s, k.Consumers, g.Number, l.BarY); by != "" {
			sentences = append(sentences, by)
		}
		t.Lanes = append(t.Lanes, l)
	}
	if len(shown) == 0 {
		sentences = append(sentences, "No generation yet.")
	}
	if t.Older > 0 {
		sentences = append(sentences, words.Count(t.Older, "older generation")+" not shown.")
	}
	sentences = append(sentences, nextWords(now, k)+".")
	if !k.NextRotation.IsZero() {
		t.Due = &due{s.mark(k.NextRotation, nextWords(now, k)), nextWords(now, k), k.Overdue(now), beyond}
	}
	t.Desc = strings.Join(sentences, " ")
	return t
}

// nextWords says when a key is rotated next.
func nextWords(now time.Time, k status.Key) string {
	subject := "Next rotation "
	switch {
	case k.NextRotation.IsZero():
		subject = "Rotated "
	case !k.NextRotation.After(now):
		subject = "Rotation "
	}
	return subject + nextShort(now, k)
}

// nextShort is nextWords for a table column whose heading names the subject.
func nextShort(now time.Time, k status.Key) string {
	switch {
	case k.NextRotation.IsZero():
		return "on request only"
	case k.Overdue(now):
		return "overdue since " + day(now, k.NextRotation)
	case !k.NextRotation.After(now):
		return "due now"
	}
	return day(now, k.NextRotation) + ", " + relative(now, k.NextRotation)
}

// activeAt returns when a generation was first proven in a vault, which made it the
// newest; zero if it has not been.
func activeAt(g status.Generation) time.Time {
	var first time.Time
	for _, p := range g.Placements {
		if !p.ProvenAt.IsZero() && (first.IsZero() || p.ProvenAt.Before(first)) {
			first = p.ProvenAt
		}
	}
	if first.IsZero() {
		return g.Finished
	}
	return first
}

// stateOrder is the states as a generation passes them.
var stateOrder = []key.State{key.PreActivation, key.Active, key.Deactivated, key.Suspended, key.Compromised,
	key.Destroyed}

// turn is the beginning of a state.
type turn struct {
	at    time.Time
	state key.State
}

// turnsOf returns a generation's states in the order in which it entered them. A
// generation never returns to a state that ranks lower.
func turnsOf(g status.Generation) []turn {
	turns := []turn{{g.Reserved, key.PreActivation}, {activeAt(g), key.Active}, {g.Deactivated, key.Deactivated}}
	if g.State == key.Suspended {
		var at time.Time
		for _, p := range g.Placements {
			if p.DisabledAt.After(at) {
				at = p.DisabledAt
			}
		}
		turns = append(turns, turn{at, key.Suspended})
	}
	turns = append(turns, turn{g.Compromised, key.Compromised}, turn{g.Discarded, key.Destroyed})
	turns = slices.DeleteFunc(turns, func(t turn) bool { return t.at.IsZero() })
	slices.SortStableFunc(turns, func(a, b turn) int { return a.at.Compare(b.at) })
	highest := -1
	return slices.DeleteFunc(turns, func(t turn) bool {
		rank := slices.Index(stateOrder, t.state)
		lower := rank < highest
		highest = max(highest, rank)
		return lower
	})
}

func barsOf(now time.Time, s scale, g status.Generation) []bar {
	var bars []bar
	turns := turnsOf(g)
	for i, t := range turns {
		if t.state == key.Destroyed {
			break
		}
		end := now
		if i+1 < len(turns) {
			end = turns[i+1].at
		}
		x, to := s.at(t.at), s.at(end)
		bars = append(bars, bar{percent(x), percent(max(to-x, 0.4)), t.state,
			fmt.Sprintf("%s from %s to %s", t.state, day(now, t.at), untilWords(now, end))})
	}
	return bars
}

func untilWords(now, t time.Time) string {
	if t.Equal(now) {
		return "now"
	}
	return day(now, t)
}

// captionOf returns a generation's state, and since when.
func captionOf(now time.Time, g status.Generation) string {
	since := func(at time.Time) string { return " since " + day(now, cmp.Or(at, g.Reserved)) }
	switch g.State {
	case key.Active:
		return "active" + since(activeAt(g))
	case key.Deactivated:
		return "deactivated" + since(g.Deactivated)
	case key.Suspended:
		return "suspended: disabled in every vault"
	case key.Compromised:
		return "compromised" + since(g.Compromised)
	case key.Destroyed:
		return "discarded " + day(now, g.Discarded) + ", was never used"
	}
	return "pre-activation" + since(g.Reserved)
}
