package observe

import (
	"context"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
)

// countingHSM counts how often its inventory is read.
type countingHSM struct {
	HSM
	read int
}

func (h *countingHSM) Inventory(context.Context) ([]key.Object, error) {
	h.read++
	return nil, nil
}

// Somebody set the clock ahead, keyd read the inventory, and the clock was set right.
func TestAnInventoryFromTheFutureIsReadAgain(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	h := &countingHSM{}
	o := New(Config{HSM: h, Records: noRecords{}, Clock: func() time.Time { return now }, Slow: slow})
	look := func() record.HSMSeen { return o.hsm(t.Context(), "k", slow) }
	now = now.Add(time.Hour)
	look()
	now = now.Add(-time.Hour)
	if seen := look(); !seen.Begun.Equal(now) || h.read != 2 {
		t.Errorf("the inventory is of %s, and was read %d times; it is %s", seen.Begun, h.read, now)
	}
}
