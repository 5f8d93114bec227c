package words_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

func TestSpanUsesTheLargestUnitWithAtLeastTwo(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "0 seconds", time.Second: "1 second", 119 * time.Second: "119 seconds", 2 * time.Minute: "2 minutes",
		119 * time.Minute: "119 minutes", 2 * time.Hour: "2 hours", 47 * time.Hour: "47 hours", 2 * day: "2 days",
		59 * day: "59 days", 60 * day: "2 months", 729 * day: "24 months", 730 * day: "2 years",
	} {
		if got := words.Span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestCountUsesTheSingularForOne(t *testing.T) {
	for n, want := range map[int]string{0: "0 keys", 1: "1 key", 2: "2 keys"} {
		if got := words.Count(n, "key"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestExactlyLosesNothing(t *testing.T) {
	for d, want := range map[time.Duration]string{
		24 * time.Hour: "1 day", 400 * 24 * time.Hour: "400 days", 25 * time.Hour: "25h0m0s",
	} {
		if got := words.Exactly(d); got != want {
			t.Errorf("Exactly(%v) = %q, want %q", d, got, want)
		}
	}
}
