package hsm

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// late is the context of an effect whose deadline is over.
func late(ctx context.Context) context.Context {
	over := term.Instant{Wall: time.Now(), Boot: time.Hour}
	return term.WithEffect(ctx, term.Effect{What: "the effect", Deadline: over,
		Clock: func() term.Instant { return over.Add(time.Second) }})
}

// side is the engine or a client of it.
type side interface {
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID) error
	WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error)
	Destroy(ctx context.Context, id key.ID) error
	MakeAuditKey(ctx context.Context) (key.Material, error)
}

// effectsOn makes each call that is an effect.
func effectsOn(t *testing.T, fresh, made, spare key.ID) map[string]func(context.Context, side) error {
	kek, _ := newKEK(t, vaultURL)
	return map[string]func(context.Context, side) error{
		"Generate": func(ctx context.Context, s side) error {
			return s.Generate(ctx, fresh, "sa-cmk-key", 2, key.RSA2048, "")
		},
		"WrapFor": func(ctx context.Context, s side) error {
			_, err := s.WrapFor(ctx, made, kek)
			return err
		},
		"Destroy": func(ctx context.Context, s side) error { return s.Destroy(ctx, spare) },
		"MakeAuditKey": func(ctx context.Context, s side) error {
			_, err := s.MakeAuditKey(ctx)
			return err
		},
	}
}

func TestTheTokenIsNotCalledForAnEffectAfterItsDeadline(t *testing.T) {
	var m *counted
	e := inProcess(t, func(real module) module { m = newCounted(real); return m })
	for name, do := range effectsOn(t, newID(t), mustGenerate(t, e), mustGenerate(t, e)) {
		calls := m.during(func() { wantCode(t, do(late(t.Context()), e), Late, key.Retry) })
		for _, change := range []string{
			"GenerateKeyPair", "SetAttributeValue", "CreateObject", "WrapKey", "DestroyObject",
		} {
			if calls[change] > 0 {
				t.Errorf("%s: the token changes after the deadline: %v", name, calls)
			}
		}
		if name == "Generate" { // an id is asked for once, whatever came of it
			continue
		}
		if err := do(t.Context(), e); err != nil {
			t.Errorf("%s in time: %v", name, err)
		}
	}
}

func TestAnEffectAfterItsDeadlineIsNotSent(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			kek, _ := newKEK(t, vaultURL)
			f := &fakeCalls{public: kek.Material}
			c, _ := connect(f)
			for name, do := range effectsOn(t, newID(t), newID(t), newID(t)) {
				wantCode(t, do(late(t.Context()), c), Late, key.Retry)
				if err := do(t.Context(), c); err != nil {
					t.Errorf("%s in time: %v", name, err)
				}
			}
			if n := f.waiting.Load(); n != 1 {
				t.Errorf("Generate arrived %d times, want once", n)
			}
		})
	}
}

func TestTheHSMSideTakesNoEffectWithoutADeadline(t *testing.T) {
	s := &server{calls: &fakeCalls{}, permitted: unread, log: slog.New(slog.DiscardHandler)}
	for _, method := range effects {
		got := s.answer(t.Context(), request{Method: method, TimeoutMS: 1000})
		if len(got) != 1 || got[0].Error == nil || got[0].Error.Code != BadRequest {
			t.Errorf("%s: %+v", method, got)
		}
	}
}

// A request may wait for its turn, and the process may stand still.
func TestARequestIsLateByEitherClock(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		until time.Time
		limit time.Duration
		late  bool
	}{
		"in time":                       {now.Add(time.Hour), time.Hour, false},
		"the deadline is over":          {now.Add(-time.Second), time.Hour, true},
		"it waited longer than allowed": {now.Add(time.Hour), 0, true},
	} {
		ctx, err := withDeadline(t.Context(), request{Method: "Destroy", Until: c.until}, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		if err := stillDue(ctx); (err != nil) != c.late {
			t.Errorf("%s: %v", name, err)
		} else if c.late {
			wantCode(t, err, Late, key.Retry)
		}
	}
}

func TestTheDeadlineOfAnEffectTravels(t *testing.T) {
	e := term.Effect{What: "the effect", Deadline: term.Now().Add(time.Minute)}
	ctx, cancel := context.WithTimeout(term.WithEffect(t.Context(), e), time.Hour)
	defer cancel()
	for method, effect := range map[string]bool{"WrapFor": true, "Describe": false} {
		frame, err := request{Method: method}.due(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r, err := decodeRequest(frame[4:])
		if err != nil || r.Until.IsZero() == effect || r.Until.After(e.Deadline.Wall) {
			t.Errorf("%s may begin until %v, %v, want until %v if it is an effect: %v", method, r.Until, err,
				e.Deadline.Wall, effect)
		}
	}
}
