package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

const (
	// miniLanes is how many generations a small timeline draws.
	miniLanes = 8
	miniWidth = 400 // of its box; its height is 12
)

// mini is a timeline on one line, for tables: each generation while it was the newest.
// Each state has its own shape as well as a colour.
type mini struct {
	Title string
	Paths []miniPath
	Now   int
	Due   int // 0: none
}

type miniPath struct{ State, D string }

// miniShape draws a time from x over w. Superseded times are a thin line; only active ones have
// a full body.
func miniShape(s key.State, x, w int) string {
	switch s {
	case key.Active:
		return fmt.Sprintf("M%d 1h%dv10h-%dz", x, w, w)
	case key.Compromised, key.Suspended:
		return fmt.Sprintf("M%d 1h%dv3h-%dzM%d 8h%dv3h-%dz", x, w, w, x, w, w)
	case key.PreActivation:
		return fmt.Sprintf("M%d 8h%dv3h-%dz", x, w, w)
	}
	return fmt.Sprintf("M%d 4h%dv4h-%dz", x, w, w)
}

func drawMini(now time.Time, k status.Key) mini {
	var shown []status.Generation
	for _, g := range slices.Backward(k.Generations) {
		if g.Discarded.IsZero() && len(shown) < miniLanes {
			shown = append(shown, g)
		}
	}
	s, _ := scaleOf(now, shown, k.NextRotation)
	at := func(t time.Time) int { return int(s.at(t) * miniWidth / 100) }
	m := mini{Title: miniTitle(now, k), Now: at(now)}
	if !k.NextRotation.IsZero() {
		m.Due = at(k.NextRotation)
	}
	paths := map[key.State]*strings.Builder{}
	end := m.Now
	for _, g := range shown { // the newest first
		x := at(activeAt(g))
		if activeAt(g).IsZero() {
			x = at(g.Reserved)
		}
		state := g.State
		if paths[state] == nil {
			paths[state] = new(strings.Builder)
		}
		paths[state].WriteString(miniShape(state, x, max(end-x-2, 2)))
		end = x
	}
	for _, state := range []key.State{key.PreActivation, key.Active, key.Deactivated, key.Suspended, key.Compromised} {
		if p := paths[state]; p != nil {
			m.Paths = append(m.Paths, miniPath{string(state), p.String()})
		}
	}
	return m
}

func miniTitle(now time.Time, k status.Key) string {
	if len(k.Generations) == 0 {
		return k.Name + ": no generation yet"
	}
	g := k.Generations[len(k.Generations)-1]
	return fmt.Sprintf("%s: generation %d %s; %s", k.Name, g.Number, captionOf(now, g), inside(nextWords(now, k)))
}
