package rotate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

func TestACompromiseIsAcknowledgedOnceItsRotationIsFinished(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	w.now = w.now.Add(time.Hour)
	request(t, w, p, rotate.Wanted{Reason: "leak", Compromise: true})
	r := w.rotator()
	err := r.Acknowledge(t.Context(), p, "uid 0 (root)", "the archive needs it")
	if reason, refused := rotate.IsRefused(err); !refused || !strings.Contains(reason, "is not finished") {
		t.Errorf("before the rotation is finished: %v", err)
	}
	w.settle(p)
	rec := w.record(p.Key)
	if got := len(rec.Exposed(nil)); got != 1 {
		t.Fatalf("%d versions are exposed after the rotation, want 1", got)
	}
	if err := w.rotator().Acknowledge(t.Context(), p, "uid 0 (root)", "the archive needs it"); err != nil {
		t.Fatal(err)
	}
	rec = w.record(p.Key)
	if got := rec.Exposed(nil); len(got) != 0 {
		t.Errorf("%+v is exposed after the acknowledgement", got)
	}
	last := w.store.entries[len(w.store.entries)-1]
	if last.Event != chain.CompromiseAcknowledged || last.Actor != "uid 0 (root)" ||
		last.Fields["reason"] != "the archive needs it" || !strings.Contains(last.Fields["versions"], "weu/") {
		t.Errorf("the audit has %+v", last)
	}
}

func TestNothingIsAcknowledgedWhereNoCompromisedVersionIsEnabled(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	w.settle(p)
	if err := w.rotator().Acknowledge(t.Context(), p, "uid 0", "x"); key.ClassOf(err) != key.Refused {
		t.Errorf("%v, want a refusal", err)
	}
}
