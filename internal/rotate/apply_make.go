package rotate

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
)

// hold records the stop of a key.
func (r *Rotator) hold(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	rec.Hold = s.Hold
	return r.save(ctx, rec, "key held", map[string]string{"code": string(s.Hold.Code), "reason": s.Hold.Reason})
}

// reserve records a new generation with a fresh id, and what the key's policy is,
// so that the key can still be proved when it leaves the configuration.
func (r *Rotator) reserve(ctx context.Context, p key.Policy, rec key.Record, s Step) (key.Record, error) {
	id, err := key.NewID(r.Random)
	if err != nil {
		return rec, err
	}
	g := key.Generation{
		Number: rec.NextNumber(), ID: id, Spec: p.Spec,
		Reason: s.wish.reason, Requester: s.wish.requester,
		Requests: s.wish.requests, Without: s.wish.without, Reserved: r.now(),
	}
	rec.Generations = append(rec.Generations, g)
	rec.Vaults, rec.Operations = p.Vaults, p.Operations
	return r.saveAs(ctx, rec, actorOf(g), "generation reserved", generationFields(g, map[string]string{
		"spec": string(g.Spec), "reason": g.Reason, "without": spaced(g.Without), "requests": spaced(g.Requests)}))
}

// spaced is a list as a field of an entry has it.
func spaced[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return strings.Join(texts, " ")
}

func actorOf(g key.Generation) string {
	if g.Requester == "" {
		return "keyd"
	}
	return g.Requester
}

// generate calls C_GenerateKeyPair, at most once for an id: the mark is in the
// record before the call.
func (r *Rotator) generate(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	g := rec.Generation(s.Generation)
	g.GenerateBegun = r.now()
	rec, err := r.save(ctx, rec, "generation intended", generationFields(*g, nil))
	if err != nil {
		return rec, err
	}
	g = rec.Generation(s.Generation)
	killpoint.At("generate-before")
	err = r.HSM.Generate(ctx, g.ID, rec.Key, g.Number, g.Spec)
	killpoint.At("generate-after")
	if err == nil {
		return r.save(ctx, rec, "generation made", generationFields(*g, nil))
	}
	// Whatever the error says, the next look decides: a whole pair is pinned,
	// anything else is abandoned with its id.
	return rec, err
}

// abandon gives an id up and takes another for the same generation.
func (r *Rotator) abandon(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	id, err := key.NewID(r.Random)
	if err != nil {
		return rec, err
	}
	g := rec.Generation(s.Generation)
	fields := generationFields(*g, map[string]string{"why": s.Why, "new_id": string(id)})
	giveUpID(r.now(), &rec, g, id, s.Why)
	return r.save(ctx, rec, "id abandoned", fields)
}

// giveUpID leaves what is or comes under a generation's id to the sweeper, and gives
// the generation a fresh one.
func giveUpID(now time.Time, rec *key.Record, g *key.Generation, fresh key.ID, why string) {
	rec.Abandoned = append(rec.Abandoned, key.AbandonedID{ID: g.ID, Generation: g.Number, At: now, Reason: why})
	g.ID, g.GenerateBegun = fresh, time.Time{}
}

// pin records the fingerprint of a pair that reads back as asked and proves that
// it has its private key.
func (r *Rotator) pin(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	g := rec.Generation(s.Generation)
	pub, err := r.HSM.PublicKey(ctx, g.ID)
	if err != nil {
		if key.ClassOf(err) == key.Fatal {
			s.Why = "the pair is not what was asked for: " + err.Error()
			return r.abandon(ctx, rec, s)
		}
		return rec, err
	}
	if pub.N.BitLen() != g.Spec.Bits() {
		s.Why = fmt.Sprintf("the pair has %d bits, and %s was asked for", pub.N.BitLen(), g.Spec)
		return r.abandon(ctx, rec, s)
	}
	if g.Fingerprint, err = key.FingerprintOf(pub); err != nil {
		return rec, err
	}
	for _, other := range rec.Generations {
		if other.Number != g.Number && other.Fingerprint == g.Fingerprint {
			return rec, fmt.Errorf("the HSM made the same pair for generation %d and %d: its random generator cannot be trusted, stop using it", other.Number, g.Number)
		}
	}
	made, err := r.HSM.Describe(ctx)
	if err != nil {
		return rec, err
	}
	g.Pinned = r.now()
	rec, err = r.save(ctx, rec, "generation pinned", generationFields(*g, map[string]string{
		"hsm_manufacturer": made.Manufacturer, "hsm_model": made.Model, "hsm_serial": made.Serial,
		"hsm_firmware": made.Firmware, "hsm_token": made.Token}))
	killpoint.At("pin-after")
	return rec, err
}

// sweep destroys what is under an abandoned id.
func (r *Rotator) sweep(ctx context.Context, rec key.Record, s Step) (key.Record, error) {
	for _, g := range rec.Generations {
		if g.ID == s.ID {
			return rec, fmt.Errorf("CKA_ID %s is that of generation %d: keyd does not destroy it", s.ID, g.Number)
		}
	}
	i := slices.IndexFunc(rec.Abandoned, func(a key.AbandonedID) bool { return a.ID == s.ID })
	if i < 0 {
		return rec, fmt.Errorf("CKA_ID %s was never given up: keyd does not destroy it", s.ID)
	}
	rec.Abandoned[i].DestroyBegun = r.now()
	fields := map[string]string{"id": string(s.ID), "generation": strconv.Itoa(s.Generation)}
	rec, err := r.save(ctx, rec, "destruction intended", fields)
	if err != nil {
		return rec, err
	}
	killpoint.At("sweep-before")
	if err := r.HSM.Destroy(ctx, s.ID); err != nil {
		return rec, err
	}
	killpoint.At("sweep-after")
	rec.Abandoned[i].DestroyBegun = time.Time{}
	return r.save(ctx, rec, "abandoned pair destroyed", fields)
}

func generationFields(g key.Generation, more map[string]string) map[string]string {
	f := map[string]string{"generation": strconv.Itoa(g.Number), "id": string(g.ID)}
	if g.Fingerprint != "" {
		f["fingerprint"] = string(g.Fingerprint)
	}
	for k, v := range more {
		if v != "" {
			f[k] = v
		}
	}
	return f
}
