package record

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

func TestAPromotionNeedsTheNextSpareAndNothingUnderWay(t *testing.T) {
	p := key.Policy{Key: "sa-cmk-key", Spec: key.RSA2048, Spares: 2}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	rec := Record{Key: p.Key}
	for _, id := range []key.ID{"01", "02"} {
		s, err := rec.ReserveSpare(now, p, id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rec.ReserveSpare(now, p, "03"); err == nil {
			t.Error("a spare was reserved beside one that is being made")
		}
		if _, err := rec.Pin(now, s.Number, key.Fingerprint("sha256:"+string(id))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rec.Promote(now, p, 2, Reservation{}); err == nil {
		t.Error("the second spare was promoted before the first")
	}
	if err := rec.Intend(1, Placement{Attempt: "a"}); err == nil {
		t.Error("a spare was placed")
	}
	if _, err := rec.Promote(now, p, 1, Reservation{}); err != nil {
		t.Fatal(err)
	}
	if _, err := rec.Promote(now, p, 2, Reservation{}); err == nil {
		t.Error("a spare was promoted while a generation is under way")
	}
}
