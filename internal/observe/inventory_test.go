package observe

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// slowHSM answers when the test says so, whatever the caller's deadline.
type slowHSM struct {
	HSM
	answer chan struct{}
}

func (h slowHSM) Inventory(context.Context) ([]key.Object, error) {
	<-h.answer
	return nil, nil
}

func TestAKeyWaitsForTheInventoryNoLongerThanItsStepMayTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hsm := slowHSM{answer: make(chan struct{})}
		o := New(Config{HSM: hsm, Clock: time.Now})
		go o.hsm(t.Context(), "first", time.Minute)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		seen := o.hsm(ctx, "second", time.Minute)
		if waited := time.Since(began); seen.Err == nil || waited != time.Minute {
			t.Errorf("waited %s, error %v", waited, seen.Err)
		}
		close(hsm.answer)
	})
}
