package rotate_test

import (
	"slices"
	"testing"
	"time"
)

// A vault that does not answer is left alone for a while, not for as long as a clock
// was off that was turned meanwhile.
func TestAClockThatIsTurnedDuringALookDoesNotKeepAVaultFromBeingAsked(t *testing.T) {
	for name, turn := range map[string]time.Duration{"and stays ahead": 0, "and is put back": -72 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			w, r, p := rotatedOnly(t, weu)
			w.strike = func(_ int, call string) fault {
				if call != "weu.Versions" {
					return none
				}
				w.now = w.now.Add(72 * time.Hour)
				return failBefore
			}
			if _, err := w.step(r, p); err != nil {
				t.Fatal(err)
			}
			w.strike, w.calls = nil, nil
			w.now = w.now.Add(turn + 3*time.Hour)
			if _, err := w.step(r, p); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(w.calls, "weu.Versions") {
				t.Errorf("the vault was not asked again: %v", w.calls)
			}
		})
	}
}
