package emulator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

func TestAIServicesMoveWhenTheirKeyIsSetAgain(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	g := newGeneric(t, s.Emulator)
	encryption := func(version string) string {
		return fmt.Sprintf(`"properties":{"encryption":{"keySource":"Microsoft.KeyVault",`+
			`"keyVaultProperties":{"keyVaultUri":"https://%s","keyName":"cmk","keyVersion":"%s"}}}}`, protected,
			version)
	}
	if err := g.put(aiID, `{`+withIdentity+`"kind":"AIServices",`+encryption("")); err == nil ||
		!strings.Contains(err.Error(), "must have a version") {
		t.Errorf("without a version: %v", err)
	}
	must(t, g.put(aiID, `{`+withIdentity+`"kind":"AIServices",`+encryption(v1)))
	s.write("ai")
	v2 := s.rotate()
	s.later(100 * 24 * time.Hour)
	s.wantInUse(map[string]string{"ai": v1})
	must(t, g.patch(aiID, `{`+encryption(v2)))
	s.wantInUse(map[string]string{"ai": v2})
	g.wantShown(aiID, `"keyVersion":"`+v2, `"provisioningState":"Succeeded"`)
	s.later(4 * time.Minute)
	s.enable(v1, false)
	s.wantLost("KeyDisabled", "ai") // its data are still under the old version
	s.enable(v1, true)
	s.later(time.Minute)
	s.enable(v1, false)
	s.wantReadable()
	if r := s.report("ai"); len(r.Previous) != 0 || r.NextLook != nil {
		t.Errorf("%+v", r)
	}
}

func TestAIServicesThatCannotMoveTryAgain(t *testing.T) {
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("ai=ai,key=KEY")
	s.write("ai")
	v2 := s.rotate()
	g := newGeneric(t, s.Emulator)
	set := func(version string) {
		must(t,
			g.patch(s.report("ai").ID,
				fmt.Sprintf(`{"properties":{"encryption":{"keySource":"Microsoft.KeyVault","keyVaultProperties":{`+
					`"keyVaultUri":"https://%s","keyName":"cmk","keyVersion":"%s"}}}}`, protected, version)))
	}
	set(v2)
	s.enable(v1, false)
	s.later(5 * time.Minute)
	s.wantLost("KeyDisabled", "ai")
	if r := s.report("ai"); !strings.Contains(r.Trouble, v1) {
		t.Errorf("its trouble is %q", r.Trouble)
	}
	s.enable(v1, true)
	s.later(5 * time.Minute)
	s.enable(v1, false)
	s.wantReadable()
	set(s.rotate()) // and back, before the data moved
	set(v2)
	if r := s.report("ai"); r.InUse != cmkURL+"/"+v2 || len(r.Previous) != 0 {
		t.Errorf("%+v", r)
	}
	s.wantReadable()
}
