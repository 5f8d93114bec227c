package trouble

import (
	"errors"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
)

func TestAKeysStateNamesItsMostUrgentTrouble(t *testing.T) {
	now := time.Now()
	p := key.Policy{Key: "one", Vaults: []key.Vault{{Name: "contoso-weu", URL: weu}}}
	done := allWell().rec
	rotating := done.Clone()
	rotating.Generations = append(rotating.Generations, record.Generation{Number: 2, Reserved: now})
	two := p
	two.Vaults = append(two.Vaults, key.Vault{Name: "neu", URL: "https://neu-keyd-test.vault.azure.net"})
	lost := record.Record{Key: "one", Generations: []record.Generation{{Number: 1, Fingerprint: "sha256:aa",
		Placements: []record.Placement{{Seq: 1, Vault: p.Vaults[0].URL, State: key.Proven}}}}}
	lost.LosePair(now, 1)
	held := rotating.Clone()
	held.Hold = &key.Hold{Code: key.HoldPaused}
	for _, c := range []struct {
		name string
		p    key.Policy
		rec  record.Record
		pos  rotate.Position
		want string
	}{
		{"held", p, held, rotate.Position{}, status.StateHeld},
		{"retained", key.Policy{Retained: true}, done, rotate.Position{}, status.StateRetained},
		{"new", p, record.Record{}, rotate.Position{}, status.StateNew},
		{"rotating", p, rotating, rotate.Position{}, status.StateRotating},
		{"failing", p, rotating, rotate.Position{Err: errors.New("no"), Failures: 2}, status.StateFailing},
		{"one failure is none yet", p, rotating, rotate.Position{Err: errors.New("no"), Failures: 1},
			status.StateRotating},
		{"ok", p, done, rotate.Position{}, status.StateOK},
		{"lost and adopted with one vault done", two, lost, rotate.Position{}, status.StatePartial},
	} {
		k := status.Key{Retained: c.p.Retained, Hold: c.rec.Hold, Requests: c.rec.Requests}
		if got := KeyState(k, c.rec.Stage(c.p), c.pos); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
