package storetest_test

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

func TestTheEngineInMemoryKeepsTheContractOfAnEngine(t *testing.T) {
	storetest.RunEngine(t, func(*testing.T) storetest.Handles {
		m := storetest.NewMemory(time.Now)
		return func(*testing.T) stored.Engine { return m }
	})
}
