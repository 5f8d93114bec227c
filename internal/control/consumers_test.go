package control

import (
	"errors"
	"testing"
)

func TestConsumersAreShownToReadersAlso(t *testing.T) {
	readers := func(uint32, []uint32) (read, act bool) { return true, false }
	c := Dial(serve(t, newFake(), readers))
	for _, discover := range []bool{false, true} {
		got, err := c.Consumers(t.Context(), "a", discover)
		if err != nil || len(got) != 1 || got[0].Key != "a" || got[0].Searched != discover {
			t.Errorf("discover %v: %+v, %v", discover, got, err)
		}
	}
	if got, err := c.Consumers(t.Context(), "", false); err != nil || len(got) != 1 {
		t.Errorf("of every key: %+v, %v", got, err)
	}
	var usage *UsageError
	if _, err := c.Consumers(t.Context(), "a b", false); !errors.As(err, &usage) {
		t.Errorf("of what cannot be a key: %v", err)
	}
}
