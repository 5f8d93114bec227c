package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// strip is the health of a vault or of the HSM over a day. Each state has its own
// height as well as a colour.
type strip struct {
	Good, Bad, Unknown string // paths in a box of Width by 12
	Width              int
	Words              string
	From               string
}

// drawStrip draws a history; nil if there is none.
func drawStrip(h *status.History) *strip {
	if h == nil || len(h.Slots) == 0 {
		return nil
	}
	var good, bad, unknown strings.Builder
	for i, s := range h.Slots {
		switch s {
		case status.SlotGood:
			fmt.Fprintf(&good, "M%d 6h.8v6h-.8z", i)
		case status.SlotBad:
			fmt.Fprintf(&bad, "M%d 0h.8v12h-.8z", i)
		default:
			fmt.Fprintf(&unknown, "M%d 10.8h.8v1.2h-.8z", i)
		}
	}
	return &strip{good.String(), bad.String(), unknown.String(), len(h.Slots), stripWords(h),
		h.Start.UTC().Format("15:04")}
}

// stripWords says what a strip shows.
func stripWords(h *status.History) string {
	var good, bad, unknown int
	lastBad := -1
	for i, s := range h.Slots {
		switch s {
		case status.SlotGood:
			good++
		case status.SlotBad:
			bad++
			lastBad = i
		default:
			unknown++
		}
	}
	width := h.Width.Duration()
	all := time.Duration(len(h.Slots)) * width
	of := func(n int) string { return hours(time.Duration(n) * width) }
	if good == len(h.Slots) {
		return "Well throughout the last " + hours(all)
	}
	if unknown == len(h.Slots) {
		return "Nothing is known of the last " + hours(all)
	}
	words := fmt.Sprintf("Last %s: well for %s", hours(all), of(good))
	if bad > 0 {
		at := h.Start.Add(time.Duration(lastBad) * width).UTC()
		words += fmt.Sprintf(", in trouble for %s (last at %s)", of(bad), at.Format("15:04"))
	}
	if unknown > 0 {
		words += fmt.Sprintf(", nothing known of %s", of(unknown))
	}
	return words
}

// hours returns text such as "45 min" or "22 h 15 min".
func hours(d time.Duration) string {
	h, m := int(d.Hours()), int(d.Minutes())%60
	switch {
	case h == 0:
		return fmt.Sprintf("%d min", m)
	case m == 0:
		return fmt.Sprintf("%d h", h)
	}
	return fmt.Sprintf("%d h %d min", h, m)
}
