package hsm

import (
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
)

// inventoryChunk objects are read in one turn of a session, so that other work gets the session in between.
const inventoryChunk = 100

// Inventory lists the instance's pairs, ordered by id, in one pass over the token: it searches for no single pair, and
// remembers the handles of all of them.
func (e *engine) Inventory(ctx context.Context) ([]key.Object, error) {
	if _, err := e.ready(ctx); err != nil {
		return nil, err
	}
	ctx, resume, err := e.making.pause(ctx)
	if err != nil {
		return nil, err
	}
	defer resume()
	p, err := e.pass(ctx)
	if err == nil && p.lost != nil {
		// Either someone just destroyed the object or the library made a mistake. A second look shows which.
		e.tok.reportMended("a handle was lost while the pairs were listed, and they are listed again", p.lost)
		p, err = e.pass(ctx)
	}
	if err != nil {
		return nil, classify("list the key pairs", err, key.Retry)
	}
	e.rememberAll(p.pairs)
	e.first.passed()
	e.limits.shown(p.shown)
	return p.shown, nil
}

// pass is what one reading of the whole token found.
type pass struct {
	objects map[key.ID][]object
	shown   []key.Object
	pairs   map[key.ID]pair // the whole ones
	lost    error           // a handle that was lost meanwhile
}

func (e *engine) pass(ctx context.Context) (*pass, error) {
	p := &pass{objects: map[key.ID][]object{}, pairs: map[key.ID]pair{}}
	for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
		handles, err := during(ctx, e, func(s session) ([]pkcs11.ObjectHandle, error) {
			// Session objects, such as the KEK of a wrap that is under way, are none of ours.
			return s.find(pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
		})
		if err != nil {
			return nil, err
		}
		for chunk := range slices.Chunk(handles, inventoryChunk) {
			found, err := during(
				ctx,
				e,
				func(s session) (chunkFound, error) { return s.readChunk(class, e.own, chunk) },
			)
			if err != nil {
				return nil, err
			}
			p.lost = errors.Join(p.lost, found.lost)
			for i, id := range found.ids {
				p.objects[id] = append(p.objects[id], found.objects[i])
			}
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(p.objects)), inventoryChunk) {
		if _, err := during(ctx, e, func(s session) (struct{}, error) {
			return struct{}{}, p.examine(s, e.own, ids)
		}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// during lends f a session for a part of a pass.
func during[T any](ctx context.Context, e *engine, f func(session) (T, error)) (T, error) {
	return with(ctx, e.tok, e.cfg.CallTimeout, true, f)
}

// chunkFound are the objects with a CKA_ID as keyd makes it, and their ids.
type chunkFound struct {
	ids     []key.ID
	objects []object
	lost    error
}

func (s session) readChunk(class uint, mine own, handles []pkcs11.ObjectHandle) (found chunkFound, err error) {
	for _, h := range handles {
		id, o, err := s.listed(h, class, mine)
		switch {
		case handleLost(err):
			found.lost = err
		case err != nil:
			return found, err
		case id != "":
			found.ids, found.objects = append(found.ids, id), append(found.objects, o)
		}
	}
	return found, nil
}

// listed reads one object of a pass: in one call if it has all attributes of a half. Of another's object, which may be
// anything, only its CKA_ID and label count. id is "" for a CKA_ID that keyd does not make.
func (s session) listed(h pkcs11.ObjectHandle, class uint, mine own) (id key.ID, o object, err error) {
	o = object{handle: h, class: class}
	if types := halfTypes(class); s.lacks.none() {
		list, err := s.attributes(h, types...)
		if err == nil {
			read := judge(class, valuesOf(types, list), mine.trial.unreported())
			o.label, o.half = read.label, &read
			return read.id, o, nil
		}
		if handleLost(err) || sessionLost(err) {
			return "", o, err
		}
	}
	named, err := s.reported(h, pkcs11.CKA_ID, pkcs11.CKA_LABEL)
	if err != nil {
		return "", o, err
	}
	id, o.label = idOf(named[0]), string(named[1])
	if id == "" || !ours(o.label, mine.instance) {
		return id, o, nil
	}
	read, err := s.readHalf(h, class, mine.trial.unreported())
	o.half = &read
	return id, o, err
}

// idOf is a CKA_ID, or "" for one of a length that keyd does not make.
func idOf(b []byte) key.ID {
	if len(b) != idLength/2 {
		return ""
	}
	return key.ID(hex.EncodeToString(b))
}

// examine shows the pairs with these ids, if they are of this instance.
func (p *pass) examine(s session, mine own, ids []key.ID) error {
	var shown []key.Object
	pairs := map[key.ID]pair{}
	for _, id := range ids {
		objects := p.objects[id]
		if !slices.ContainsFunc(objects, func(o object) bool { return ours(o.label, mine.instance) }) {
			continue
		}
		o, whole, err := s.show(id, mine, objects)
		switch {
		case handleLost(err):
			p.lost = err
		case err != nil:
			return err
		case o.Complete:
			pairs[id] = whole
		}
		shown = append(shown, o)
	}
	p.shown = append(p.shown, shown...)
	maps.Copy(p.pairs, pairs)
	return nil
}

// show examines the objects under one id for a person or a plan. A pair with a lost handle appears with that error.
func (s session) show(id key.ID, mine own, objects []object) (key.Object, pair, error) {
	out := key.Object{ID: id, Material: key.UnreadableMaterial()}
	p, err := s.examine(id, mine, objects)
	var problem *Error
	switch {
	case err == nil:
		out.Label, out.Complete, out.Material = p.label, true, p.material
		return out, p, nil
	case errors.As(err, &problem):
		out.Problem, err = problem.Message, nil
	case handleLost(err):
		out.Problem = "an object was destroyed while it was read"
	default:
		return out, p, err
	}
	for _, o := range objects {
		if l, ok := key.ParseLabel(o.label); ok && l.Instance == mine.instance {
			out.Label = l
			break // the private key's, if there is one
		}
	}
	return out, p, err
}

// Find shows what the token has under one id: nothing, or one key.Object, which is not Complete unless there is exactly
// one pair of this instance. It remembers the handles of a whole pair, and forgets those of anything else. If it
// remembers them already, it reads the pair by them. It does not search again while an earlier search counts: something
// new under the id then shows later. Nothing is under an id that this process drew and has made nothing under.
func (e *engine) Find(ctx context.Context, id key.ID) ([]key.Object, error) {
	if _, err := e.ready(ctx); err != nil {
		return nil, err
	}
	if e.drewFor(id) { // a token that is lost must show all the same, before keyd records that it makes a pair
		_, err := e.tokenInfo()
		return nil, classify("look for the key pair "+string(id), err, key.Retry)
	}
	e.beforeSearch(ctx, id)
	found, err := with(ctx, e.tok, e.cfg.CallTimeout, true, func(s session) ([]key.Object, error) {
		if o, ok := e.findAgain(s, id); ok {
			return []key.Object{o}, nil
		}
		o, p, err := s.lookAt(id, e.own)
		if handleLost(err) {
			e.tok.reportMended(
				"a handle of "+string(id)+" was lost while it was read, and it is looked up again",
				err,
			)
			o, p, err = s.lookAt(id, e.own)
		}
		if err != nil && !handleLost(err) {
			return nil, err
		}
		e.limits.looked(id, o)
		switch {
		case len(o) == 0:
			e.noteVacant(id)
		case o[0].Complete:
			e.remember(id, p)
		default:
			e.forget(id)
		}
		return o, nil
	})
	return found, classify("look for the key pair "+string(id), err, key.Retry)
}

// findAgain shows a pair whose handles are remembered, if it is whole, and alone under its id. Only a search shows the
// latter, and it is left out while an earlier one counts.
func (e *engine) findAgain(s session, id key.ID) (o key.Object, ok bool) {
	p, ok := e.recall(id)
	if !ok || !e.seen.counts() && !e.onlyThere(s, id, p) {
		return o, false
	}
	p, err := s.readAgain(id, e.own, p)
	if err != nil {
		e.reportStale(id, err)
		return o, false
	}
	o = key.Object{ID: id, Label: p.label, Complete: true, Material: p.material}
	e.limits.looked(id, []key.Object{o})
	e.remember(id, p)
	return o, true
}

// onlyThere searches for an id, and reports whether the two halves of the pair are all that has it.
func (e *engine) onlyThere(s session, id key.ID, p pair) bool {
	began := time.Now()
	found, err := s.find(pkcs11.NewAttribute(pkcs11.CKA_ID, id.Bytes()))
	slices.Sort(found)
	halves := []pkcs11.ObjectHandle{p.private, p.public}
	slices.Sort(halves)
	if err != nil || !slices.Equal(found, halves) {
		return false
	}
	e.seen.saw(began)
	return true
}

func (s session) lookAt(id key.ID, mine own) ([]key.Object, pair, error) {
	objects, err := s.objectsWith(id)
	if err != nil || len(objects) == 0 {
		return nil, pair{}, err
	}
	o, p, err := s.show(id, mine, objects)
	return []key.Object{o}, p, err
}
