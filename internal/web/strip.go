package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

// strip is the health of a vault or of the HSM over a day. Each state has its own height as well as a colour, and
// trouble is as wide as it was long.
type strip struct {
	Good, Bad, Unknown string // paths in a box of Width by 12
	Width              int
	Words              string
	From               string
}

// slimmest is how wide trouble is at least, so that it can be seen. A whole slot is slotBar wide.
const (
	slimmest = .3
	slotBar  = .8
)

// drawStrip draws a history; nil if there is none.
func drawStrip(now time.Time, h *status.History) *strip {
	if h == nil || len(h.Slots) == 0 {
		return nil
	}
	var good, bad, unknown strings.Builder
	for i, s := range h.Slots {
		switch s {
		case status.SlotUnknown:
			fmt.Fprintf(&unknown, "M%d 10.8h.8v1.2h-.8z", i)
		case status.SlotGood:
			fmt.Fprintf(&good, "M%d 6h.8v6h-.8z", i)
		case status.SlotBad:
			wide := max(slimmest, slotBar*badIn(h, i).Seconds()/h.Width.Duration().Seconds())
			if wide < slotBar {
				fmt.Fprintf(&good, "M%d 6h.8v6h-.8z", i)
			}
			fmt.Fprintf(&bad, "M%d 0h%.2fv12h-%.2fz", i, wide, wide)
		}
	}
	return &strip{good.String(), bad.String(), unknown.String(), len(h.Slots), stripWords(now, h),
		h.Start.In(now.Location()).Format("15:04 MST")}
}

// badIn is how long there was trouble in a slot.
func badIn(h *status.History, slot int) time.Duration {
	if slot >= len(h.Bad) {
		return 0
	}
	return time.Duration(h.Bad[slot] * float64(time.Second))
}

// stripWords says what a strip shows.
func stripWords(now time.Time, h *status.History) string {
	var seen, bad time.Duration
	trouble := false
	for i, s := range h.Slots {
		if s != status.SlotUnknown {
			seen += h.Width.Duration()
		}
		trouble = trouble || s == status.SlotBad
		bad += badIn(h, i)
	}
	all := time.Duration(len(h.Slots)) * h.Width.Duration()
	switch {
	case seen == 0:
		return "Nothing is known of the last " + hours(all)
	case seen == all && !trouble:
		return "Well throughout the last " + hours(all)
	}
	words := fmt.Sprintf("Last %s: well for %s", hours(all), hours(seen-bad))
	if trouble {
		words += fmt.Sprintf(", in trouble for %s", hours(bad))
		if !h.LastBad.IsZero() {
			words += " (last at " + h.LastBad.In(now.Location()).Format("15:04 MST") + ")"
		}
	}
	if seen < all {
		words += ", nothing known of " + hours(all-seen)
	}
	return words
}

// hours returns text such as "30 s", "45 min" or "22 h 15 min".
func hours(d time.Duration) string {
	h, m := int(d.Hours()), int(d.Minutes())%60
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case h == 0:
		return fmt.Sprintf("%d min", m)
	case m == 0:
		return fmt.Sprintf("%d h", h)
	}
	return fmt.Sprintf("%d h %d min", h, m)
}
