package audit

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/term"
)

// newHost is a rig whose token other hosts have, too.
func newHost(t *testing.T) *rig {
	r := newRig(t)
	r.hosts = &Hosts{Generate: 5 * time.Minute, Prove: func(context.Context) error { return nil }}
	r.restart()
	return r
}

// made counts how often the HSM side was asked to make the audit key.
func (r *rig) made() int { return strings.Count(strings.Join(r.signer.calls, " "), "MakeAuditKey") }

func (r *rig) trySign() error {
	_, err := r.keeper.Checkpoint(r.t.Context(), keyd)
	return err
}

// Otherwise each of two HSM sides on one token makes a key, and neither signs any more.
func TestAnAuditKeyThatAnotherHostBeganIsWaitedFor(t *testing.T) {
	r := newHost(t)
	r.add("", "daemon started")
	r.add("", chain.AuditKeyIntended, "until", r.now.Add(makeWithin).Format(time.RFC3339Nano))
	settled := r.now.Add(makeWithin + 5*time.Minute + key.MaxSkew)
	for _, at := range []time.Time{r.now, r.now.Add(makeWithin + time.Second), settled} {
		r.now = at
		err := r.trySign()
		if err == nil || !strings.Contains(err.Error(), settled.Format(time.RFC3339)) || r.made() > 0 {
			t.Fatalf("at %v: %v, and the HSM side was asked %d times", at, err, r.made())
		}
	}
	r.now = settled.Add(time.Second)
	r.sign()
	r.wantEvents("daemon started", chain.AuditKeyIntended, chain.AuditKeyIntended, chain.AuditKeyMade,
		chain.CheckpointSigned)
}

func TestAnAuditKeyThatAnotherHostMadeIsUsedAtOnce(t *testing.T) {
	r := newHost(t)
	r.add("", chain.AuditKeyIntended, "until", r.now.Add(makeWithin).Format(time.RFC3339Nano))
	r.signer.key = testKeys()[0]
	r.sign()
	r.wantEvents(chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned)
}

func TestTheMakingOfTheAuditKeyIsTriedAgainUnderOneIntent(t *testing.T) {
	r := newHost(t)
	r.signer.cannotMake = true
	if err := r.trySign(); err == nil {
		t.Fatal("no error")
	}
	r.signer.cannotMake = false
	r.now = r.now.Add(makeWithin / 2)
	r.sign()
	r.wantEvents(chain.AuditKeyIntended, chain.AuditKeyMade, chain.CheckpointSigned)
}

// deadlines has the HSM side check what every call of it checks before it is sent.
type deadlines struct{ *signer }

func (s deadlines) MakeAuditKey(ctx context.Context) (key.Material, error) {
	if err := term.Check(ctx); err != nil {
		return key.Material{}, err
	}
	return s.signer.MakeAuditKey(ctx)
}

func TestTheAuditKeyIsNotMadeAfterItsDeadlineNorByAHostThatLeadsNoMore(t *testing.T) {
	r := newHost(t)
	r.keeper.Signer = deadlines{r.signer}
	r.signer.cannotMake = true
	if err := r.trySign(); err == nil {
		t.Fatal("no error")
	}
	r.signer.cannotMake = false
	r.now = r.now.Add(makeWithin)
	var late *term.LateError
	if err := r.trySign(); !errors.As(err, &late) {
		t.Errorf("after the deadline: %v", err)
	}
	r.now = r.now.Add(-makeWithin / 2)
	lost := errors.New("another host leads")
	r.hosts.Prove = func(context.Context) error { return lost }
	if err := r.trySign(); !errors.As(err, &late) || !errors.Is(err, lost) {
		t.Errorf("on a host that leads no more: %v", err)
	}
	if r.made() != 1 {
		t.Errorf("the HSM side was asked %d times, want once", r.made())
	}
}
