package health

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

func TestARestartForgetsWhatProofsShowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, managed("k", weu, 1, time.Now().Add(-time.Hour)))
		h, _ := w.health(t, nil)
		for range 2 {
			results, err := h.Prove(t.Context(), "k")
			if err != nil || len(results) != 1 || results[0].Outcome != key.Passed {
				t.Fatal(results, err)
			}
			h.Restart()
			if left := h.Results("k"); left != nil {
				t.Errorf("after a restart there are still %+v", left)
			}
		}
	})
}
