package sample

import (
	"testing"
	"time"
)

func TestTimeIsInSecondsWithMilliseconds(t *testing.T) {
	for at, want := range map[time.Time]float64{
		{}:                              0,
		time.UnixMilli(0):               0,
		time.UnixMilli(1767225600123):   1767225600.123,
		time.Unix(1767225600, 99999999): 1767225600.099,
	} {
		if got := Time(at); got != want {
			t.Errorf("%s: %v, want %v", at, got, want)
		}
	}
}

func TestBoolIsOneOrZero(t *testing.T) {
	if Bool(true) != 1 || Bool(false) != 0 {
		t.Error("not 1 and 0")
	}
}
