package rotate

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/killpoint"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/record"
)

// hold records that the key is held, and why.
func (r *Rotator) hold(ctx context.Context, a act) (record.Record, error) {
	h := a.step.Hold
	a.rec.Hold = h
	return r.save(ctx, a.rec, chain.KeyHeld, map[string]string{"code": string(h.Code), "reason": h.Reason})
}

// reserve records a new generation with a fresh id.
func (r *Rotator) reserve(ctx context.Context, a act) (record.Record, error) {
	id, err := r.HSM.NewID(ctx)
	if err != nil {
		return a.rec, err
	}
	why := reservation(a.step.Trigger)
	why.ID = id
	g, err := a.rec.Reserve(r.now(), a.policy, why)
	if err != nil {
		return a.rec, err
	}
	return r.saveAs(ctx, a.rec, why.Requester, chain.GenerationReserved, reservedFields(g))
}

// reservation is what a rotation that is due makes a generation for.
func reservation(t plan.Trigger) record.Reservation {
	return record.Reservation{Reason: t.Reason, Requester: t.Requester, Requests: t.Requests, Without: t.Without}
}

// reservedFields are the fields of the entry with which a rotation begins.
func reservedFields(g *record.Generation) map[string]string {
	return generationFields(g, map[string]string{
		"spec": string(g.Spec), "reason": g.Reason, "without": spaced(g.Without), "requests": spaced(g.Requests)})
}

// generate calls C_GenerateKeyPair, at most once for an id: the record notes the call before it happens. Whatever an
// error says, the next look decides: keyd pins a whole pair, and otherwise abandons the id.
//
// So keyd asks first whether the HSM side would make the pair. While it would not, keyd records nothing and keeps the
// id, so record and audit do not grow with each try.
func (r *Rotator) generate(ctx context.Context, a act) (record.Record, error) {
	if err := r.mayGenerate(ctx, a); err != nil {
		return a.rec, err
	}
	begun := r.instant()
	g, err := a.rec.BeginGenerate(begun.Wall, a.step.Generation)
	if err != nil {
		return a.rec, err
	}
	fields := generationFields(g, nil)
	rec, err := r.save(ctx, a.rec, chain.GenerationIntended, fields)
	if err != nil {
		return rec, err
	}
	killpoint.At("generate-before")
	err = r.effect(ctx, "the making of a pair", begun, plan.StepTimeout, func(ctx context.Context) error {
		return r.HSM.Generate(ctx, g.ID, rec.Key, g.Number, g.Spec, known(&rec))
	})
	killpoint.At("generate-after")
	if err != nil {
		return rec, err
	}
	return r.save(ctx, rec, chain.GenerationMade, fields)
}

// mayGenerate returns why the HSM side would not make the pair of a generation or a spare.
func (r *Rotator) mayGenerate(ctx context.Context, a act) error {
	g := a.rec.Numbered(a.step.Generation)
	if g == nil {
		return fmt.Errorf("the record of %s has no generation %d", a.rec.Key, a.step.Generation)
	}
	err := r.HSM.MayGenerate(ctx, a.rec.Key, g.Number, g.Spec)
	if err != nil && a.rec.Spare(g.Number) != nil {
		r.spareRefused.Store(a.rec.Key, r.now())
	}
	return err
}

// known is the newest pair of a key that must be in the HSM; "" for none.
func known(rec *record.Record) key.ID {
	pairs := rec.Pairs()
	if len(pairs) == 0 {
		return ""
	}
	return pairs[len(pairs)-1].ID
}

// abandon gives up an id and draws another one for the same generation.
func (r *Rotator) abandon(ctx context.Context, a act, why string) (record.Record, error) {
	id, err := r.HSM.NewID(ctx)
	if err != nil {
		return a.rec, err
	}
	n := a.step.Generation
	fields := generationFields(a.rec.Numbered(n), map[string]string{"why": why, "new_id": string(id)})
	if err := a.rec.AbandonID(r.now(), n, id, why); err != nil {
		return a.rec, err
	}
	return r.save(ctx, a.rec, chain.IDAbandoned, fields)
}

// pin records the fingerprint of a pair that has the requested attributes and proves that it has its private key.
func (r *Rotator) pin(ctx context.Context, a act) (record.Record, error) {
	g := a.rec.Numbered(a.step.Generation)
	m, err := r.HSM.PublicKey(ctx, g.ID)
	switch {
	case err != nil && key.ClassOf(err) == key.Fatal:
		return r.abandon(ctx, a, "the pair is not what was asked for: "+err.Error())
	case err != nil:
		return a.rec, err
	case m.Spec() != g.Spec:
		return r.abandon(ctx, a, fmt.Sprintf("the pair is %s, and %s was asked for", m.Spec(), g.Spec))
	}
	made, err := r.HSM.Describe(ctx)
	if err != nil {
		return a.rec, err
	}
	if g, err = a.rec.Pin(r.now(), g.Number, m.Fingerprint()); err != nil {
		return a.rec, err
	}
	rec, err := r.save(ctx, a.rec, chain.GenerationPinned, generationFields(g, map[string]string{
		"hsm_manufacturer": made.Manufacturer, "hsm_model": made.Model, "hsm_serial": made.Serial,
		"hsm_firmware": made.Firmware, "hsm_token": made.Token}))
	killpoint.At("pin-after")
	return rec, err
}

// sweep destroys what is under an abandoned id.
func (r *Rotator) sweep(ctx context.Context, a act) (record.Record, error) {
	id, begun := a.step.ID, r.instant()
	if err := a.rec.BeginDestroy(begun.Wall, id); err != nil {
		return a.rec, err
	}
	fields := map[string]string{"id": string(id), "generation": strconv.Itoa(a.step.Generation)}
	rec, err := r.save(ctx, a.rec, chain.DestroyIntended, fields)
	if err != nil {
		return rec, err
	}
	killpoint.At("sweep-before")
	err = r.effect(ctx, "the destruction of a pair", begun, plan.StepTimeout, func(ctx context.Context) error {
		return r.HSM.Destroy(ctx, id)
	})
	if err != nil {
		return rec, err
	}
	killpoint.At("sweep-after")
	rec.Destroyed(id)
	return r.save(ctx, rec, chain.Destroyed, fields)
}

// generationFields returns the audit fields of an entry about a generation. It leaves out those without a value.
func generationFields(g *record.Generation, extra map[string]string) map[string]string {
	f := map[string]string{"generation": strconv.Itoa(g.Number), "id": string(g.ID),
		"fingerprint": string(g.Fingerprint)}
	return withFields(f, extra)
}

func withFields(f, extra map[string]string) map[string]string {
	maps.Copy(f, extra)
	maps.DeleteFunc(f, func(_, v string) bool { return v == "" })
	return f
}

// spaced joins a list into one audit field.
func spaced[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return strings.Join(texts, " ")
}
