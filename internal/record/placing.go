package record

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Intend records an import before its PUT. It sets the placement's number and state.
func (r *Record) Intend(n int, p Placement) error {
	g, err := r.generation(n)
	if err != nil {
		return err
	}
	if !g.Usable() {
		return fmt.Errorf("generation %d of %s may not be imported: it is compromised, discarded, lost in the HSM, or "+
			"not pinned", n, r.Key)
	}
	if r.Placement(p.Attempt).Found() {
		return fmt.Errorf("the fresh import attempt %s of %s was used before: the random source cannot be trusted",
			p.Attempt, r.Key)
	}
	p.Seq, p.State = r.nextSeq(), key.Intended
	g.Placements = append(g.Placements, p)
	return nil
}

func (r *Record) nextSeq() int {
	n := 0
	for at := range r.all {
		n = max(n, at.Seq)
	}
	return n + 1
}

// Land records the version of an attempt. An attempt that was given up can still land.
func (r *Record) Land(now time.Time, attempt key.ID, v key.Version) error {
	at, err := r.placement(attempt, key.Intended, key.Void)
	if err != nil {
		return err
	}
	at.land(now, v)
	return nil
}

func (p *Placement) land(now time.Time, v key.Version) {
	p.State, p.Version, p.Created, p.ImportedAt, p.Detail = key.Imported, v.ID, v.Created, now, ""
}

// LandDisabled records that a version given up as gone is there again, and is disabled. No proof of it can pass, so
// nothing may wait for one.
func (r *Record) LandDisabled(now time.Time, attempt key.ID) error {
	at, err := r.placement(attempt, key.Void)
	if err != nil {
		return err
	}
	at.State, at.DisabledAt, at.Detail = key.Disabled, now, ""
	return nil
}

// Void records that an attempt certainly did not happen.
func (r *Record) Void(attempt key.ID, why string) error {
	at, err := r.placement(attempt, key.Intended)
	if err != nil {
		return err
	}
	at.State, at.Detail = key.Void, why
	return nil
}

// Alias records another version of a placement's material. Where consumers follow it now, it becomes a placement of its
// own, which is to be proven.
func (r *Record) Alias(now time.Time, attempt key.ID, f FoundVersion) error {
	at := r.Placement(attempt)
	if !at.Found() {
		return fmt.Errorf("the record of %s has no import attempt %s", r.Key, attempt)
	}
	if r.follow(at, f) {
		r.placeFound(now, at.Generation, f, key.CauseDuplicate)
		return nil
	}
	at.alias(now, f.Version)
	return nil
}

// follow reports whether consumers follow a version that repeats the placement's material, and nothing answers that
// yet: it is the vault's newest, of the generation that was placed there last. It had no placement of its own before,
// and the placement that it repeats is not refuted.
func (r *Record) follow(at Placed, f FoundVersion) bool {
	return f.Newest && f.Version.Enabled && r.NewestIn(at.Vault).Generation == at.Generation &&
		at.State != key.Refuted && at.Generation.Compromised.IsZero() && !r.Placement(key.ID(f.Version.ID)).Found()
}

func (at Placed) alias(now time.Time, v key.Version) {
	if at.State == key.Disabled && v.Enabled { // the retire rule is to ask for this one, too
		at.DisabledVersions = at.Versions()
		at.State, at.DisabledAt = key.Superseded, time.Time{}
	}
	at.Aliases = append(at.Aliases, v.ID)
	if !at.Generation.Deactivated.IsZero() {
		at.Generation.Deactivated = now // it may have been newest until now
	}
}

// Prove records that the proof of a placement passed. The placement becomes the active one in its vault, unless a
// later one already is. Generations that are now superseded everywhere are deactivated.
func (r *Record) Prove(now time.Time, attempt key.ID) error {
	at, err := r.placement(attempt, key.Imported)
	if err != nil {
		return err
	}
	at.State, at.ProvenAt = key.Proven, now
	newest := at
	for other := range r.in(at.Vault) {
		if other.State == key.Proven && other.Seq > newest.Seq {
			newest = other
		}
	}
	for other := range r.in(at.Vault) {
		if other.State == key.Proven && other.Placement != newest.Placement {
			other.State = key.Superseded
		}
	}
	r.deactivate(now)
	return nil
}

// Refute records that the vault holds other material than the HSM.
func (r *Record) Refute(attempt key.ID, detail string) error {
	at, err := r.placement(attempt, key.Imported)
	if err != nil {
		return err
	}
	at.State, at.Detail = key.Refuted, detail
	return nil
}

// Finish records that a generation is active everywhere, which answers its requests.
func (r *Record) Finish(now time.Time, p key.Policy, n int) (*Generation, error) {
	g, err := r.generation(n)
	switch {
	case err != nil:
		return nil, err
	case !g.Finished.IsZero():
		return nil, fmt.Errorf("generation %d of %s is finished already", n, r.Key)
	case !g.Everywhere(p):
		return nil, fmt.Errorf("generation %d of %s is not active in every vault yet: it is not finished", n, r.Key)
	}
	g.Finished = now
	pending := r.Requests[:0:0]
	for _, q := range r.Requests {
		if !g.Answers(q.ID) {
			pending = append(pending, q)
		}
	}
	r.Requests = pending
	r.deactivate(now)
	return g, nil
}

// deactivate marks each generation that was active, is no longer active anywhere, and has a finished successor. A
// generation that is active again loses the mark.
func (r *Record) deactivate(now time.Time) {
	finishedLater := false
	for i := len(r.Generations) - 1; i >= 0; i-- {
		g := &r.Generations[i]
		switch {
		case g.has(func(p Placement) bool { return p.State == key.Proven }):
			g.Deactivated = time.Time{}
		case finishedLater && g.Deactivated.IsZero() && g.State() == key.Active:
			g.Deactivated = now
		}
		finishedLater = finishedLater || !g.Finished.IsZero()
	}
}
