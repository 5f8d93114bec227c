package hsm

import (
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

func TestAnAnswerThatAPairMayBeMadeMakesNone(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	wantCode(t, e.MayGenerate(t.Context(), "not-configured", 1, key.RSA2048), NotPermitted, key.Refused)
	if err := e.MayGenerate(t.Context(), "sa-cmk-key", 1, key.RSA2048); err != nil {
		t.Error(err)
	}
	if all, err := e.Inventory(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("the token has %+v, %v", all, err)
	}
}
