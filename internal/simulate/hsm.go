package simulate

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
)

// object is what the model HSM has under one CKA_ID.
type object struct {
	id      key.ID
	label   key.Label
	mat     *material
	half    bool // one half of the pair is missing
	wrapped bool // for a vault's KEK: it may have left the HSM
	made    time.Time
	opened  time.Time // when it last opened a ciphertext for keyd
}

// hsm is the model HSM with its HSM side. It follows the same rules as the real
// HSM side, and judges what keyd asks of it.
type hsm struct {
	w         *World
	trouble   trouble
	objects   []*object // ordered by id
	removed   []*object // by a meddler; the operator can put them back
	generated map[key.ID]bool
	pinned    map[key.ID]bool // at any time, in any record
	made      map[key.Fingerprint]*object
	trust     map[string]key.Fingerprint   // by vault
	approved  map[key.Fingerprint]bool     // KEKs that keyd may wrap for
	named     map[string][]key.Fingerprint // by vault: as the operator configured them
	days      map[string][]time.Time       // by key: when pairs were made during the last day
	listed    []key.Object                 // the inventory; nil: it is out of date
}

func newHSM(w *World) *hsm {
	return &hsm{w: w, generated: map[key.ID]bool{}, pinned: map[key.ID]bool{}, made: map[key.Fingerprint]*object{},
		trust: map[string]key.Fingerprint{}, approved: map[key.Fingerprint]bool{},
		named: map[string][]key.Fingerprint{}, days: map[string][]time.Time{}}
}

func (h *hsm) call(op string, effect func() error) error {
	return h.w.call("hsm", &h.trouble, op, always, effect, nil, nil)
}

func (h *hsm) find(id key.ID) *object {
	i, found := h.place(id)
	if !found {
		return nil
	}
	return h.objects[i]
}

func (h *hsm) place(id key.ID) (int, bool) {
	return slices.BinarySearchFunc(h.objects, id, func(o *object, id key.ID) int {
		if o.id < id {
			return -1
		}
		if o.id > id {
			return 1
		}
		return 0
	})
}

func (h *hsm) put(o *object) {
	i, _ := h.place(o.id)
	h.objects = slices.Insert(h.objects, i, o)
	h.listed = nil
}

func (h *hsm) take(id key.ID) *object {
	i, found := h.place(id)
	if !found {
		return nil
	}
	o := h.objects[i]
	h.objects = slices.Delete(h.objects, i, i+1)
	h.listed = nil
	return o
}

// whole returns the pair under an id, or an error when there is no whole one.
func (h *hsm) whole(id key.ID) (*object, error) {
	o := h.find(id)
	if o == nil || o.half {
		return nil, failed(key.Refused, "model: no whole pair under %s", id)
	}
	return o, nil
}

// Describe never fails: keyd calls it right after PublicKey has answered.
func (h *hsm) Describe(context.Context) (key.HSMInfo, error) {
	return key.HSMInfo{Model: "model", Serial: "1"}, nil
}

func (h *hsm) Inventory(context.Context) (out []key.Object, err error) {
	err = h.call("Inventory", func() error {
		if h.listed == nil {
			for _, o := range h.objects {
				h.listed = append(h.listed, o.shown())
			}
		}
		out = h.listed
		return nil
	})
	return out, err
}

func (o *object) shown() key.Object {
	shown := key.Object{ID: o.id, Label: o.label, Complete: !o.half, Material: o.mat.shown}
	shown.Label.Pending = !o.wrapped
	if o.half {
		shown.Problem, shown.Material = "one half of the pair is missing", key.UnreadableMaterial()
	}
	return shown
}

func (h *hsm) Find(_ context.Context, id key.ID) (out []key.Object, err error) {
	err = h.call("Find", func() error {
		if o := h.find(id); o != nil {
			out = []key.Object{o.shown()}
		}
		return nil
	})
	return out, err
}

func (h *hsm) NewID(context.Context) (key.ID, error) { return key.NewID(h.w) }

// MayGenerate draws no random number, so that stories in which it permits everything are what they would be without it.
func (h *hsm) MayGenerate(_ context.Context, name string, number int, _ key.Spec) error {
	return h.mayMake(name, number)
}

func (h *hsm) Generate(
	ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID,
) error {
	if known != "" && h.find(known) == nil {
		return failed(key.Fatal, "model: the token does not have %s, so nothing is made on it", known)
	}
	if err := h.mayMake(name, number); err != nil {
		return err
	}
	err := h.w.begins(ctx, effect{"the making of a pair under " + string(id), intent{chain.GenerationIntended, id, ""},
		plan.StepTimeout, func() { h.w.judgeGenerate(id, name, number) }})
	if err != nil {
		return err
	}
	lost := h.w.landsLate(intent{chain.GenerationIntended, id, ""})
	switch {
	case h.generated[id] && h.w.result.Lost > 0: // a successor read a record without the intent, and asked for the pair
		return failed(key.Refused, "model: there is something under %s", id)
	case h.generated[id]:
		h.w.violate("C_GenerateKeyPair is called a second time for CKA_ID %s of %s", id, name)
	}
	// What a store forgot it may ask for again, unless there is a pair.
	h.generated[id] = !lost
	h.w.judgeStep(intent{chain.GenerationIntended, id, ""}, "the making of a pair")
	pair := func(half bool) {
		o := &object{
			id:    id,
			label: key.Label{Instance: instance, Key: name, Number: number},
			mat:   h.w.primes.draw(h.w.rnd, spec.Bits()),
			half:  half,
			made:  h.w.now,
		}
		h.made[o.mat.print] = o
		h.days[name] = append(h.days[name], h.w.now)
		h.w.result.Pairs++
		h.put(o)
		h.oweGeneration(o)
	}
	return h.w.call("hsm", &h.trouble, "Generate", atMake,
		func() error { pair(false); return nil },
		func() { pair(true) },
		func() { h.w.later(h.w.between(time.Second, 2*time.Minute), func() { pair(h.w.chance(4)) }) })
}

func (h *hsm) PublicKey(_ context.Context, id key.ID) (m key.Material, err error) {
	err = h.call("PublicKey", func() error {
		o, err := h.whole(id)
		if err == nil {
			m = o.mat.shown
		}
		return err
	})
	return m, err
}

func (h *hsm) CheckKEK(_ context.Context, kek key.KEK) (how string, err error) {
	err = h.call("CheckKEK", func() error {
		how, err = h.trusts(kek)
		return err
	})
	return how, err
}

// WrapFor returns the pair's id in place of the wrapped key. The model vault finds
// the pair by that.
func (h *hsm) WrapFor(ctx context.Context, id key.ID, kek key.KEK) (blob []byte, err error) {
	err = h.w.begins(ctx, effect{what: "the wrapping of " + string(id),
		of: intent{chain.ImportIntended, id, kek.Vault}, within: plan.ImportTimeout})
	if err != nil {
		return nil, err
	}
	err = h.call("WrapFor", func() error {
		o, err := h.whole(id)
		if err != nil {
			return err
		}
		if _, err := h.trusts(kek); err != nil {
			return err
		}
		if err := h.mayGo(o, kek.Vault); err != nil {
			return err
		}
		if !h.pinned[id] && !h.w.landsLate(intent{chain.ImportIntended, id, kek.Vault}) {
			h.w.violate("the private key under %s is wrapped before its fingerprint is in a record", id)
		}
		print := kek.Material.Fingerprint()
		if h.trust[kek.Vault] == "" && len(h.named[kek.Vault]) == 0 {
			h.approved[print] = true
		}
		h.trust[kek.Vault] = print
		if !h.approved[print] {
			h.w.violate("the private key under %s is wrapped for a KEK that nobody approved", id)
		}
		if !o.wrapped {
			o.wrapped, h.listed = true, nil
		}
		blob = append(make([]byte, 600), id...)
		return nil
	})
	return blob, err
}

func (h *hsm) Opens(_ context.Context, id key.ID, ciphertext []byte, sum [sha256.Size]byte) (yes bool, err error) {
	err = h.call("Opens", func() error {
		o, err := h.whole(id)
		if err != nil {
			return err
		}
		plain, err := o.mat.open(ciphertext)
		if yes = err == nil && sha256.Sum256(plain) == sum; yes {
			o.opened = h.w.now
		}
		return nil
	})
	return yes, err
}

func (h *hsm) Destroy(ctx context.Context, id key.ID) error {
	err := h.w.begins(ctx, effect{"the destruction of " + string(id), intent{chain.DestroyIntended, id, ""},
		plan.StepTimeout, func() { h.w.judgeDestroy(id) }})
	if err != nil {
		return err
	}
	h.w.judgeStep(intent{chain.DestroyIntended, id, ""}, "the destruction of a pair")
	return h.call("Destroy", func() error {
		if o := h.find(id); o != nil && o.wrapped {
			return failed(key.Refused, "model: %s may have left the HSM", id)
		}
		if o := h.take(id); o != nil {
			h.oweDestruction(o.label.Key, id)
		}
		return nil
	})
}
