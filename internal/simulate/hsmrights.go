package simulate

import (
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// The model HSM side reads the configuration itself, as the real one does, and keeps to the same limits.

const (
	aheadOfPlaced     = 64 // how far a number may be ahead of the highest placed one
	neverWrapped      = 3  // pairs of one key that were made within a day, besides its spares
	neverWrappedInAll = 16 // whenever they were made, besides its spares
	oneDay            = 24 * time.Hour
)

// mayMake refuses a pair that the configuration or the limits do not permit.
func (h *hsm) mayMake(name string, number int) error {
	p := h.w.managed(name).policy
	if p.Retained {
		return failed(key.Refused, "model: the configuration has no key %s", name)
	}
	highest, pending, recent := 0, 0, 0
	for _, o := range h.objects {
		switch {
		case o.label.Key != name:
		case o.wrapped:
			highest = max(highest, o.label.Number)
		default:
			pending++
			if h.w.now.Sub(o.made) < oneDay {
				recent++
			}
		}
	}
	h.days[name] = slices.DeleteFunc(h.days[name], func(at time.Time) bool { return h.w.now.Sub(at) >= oneDay })
	switch {
	case number < highest || highest > 0 && number > highest+aheadOfPlaced:
		return failed(
			key.Refused,
			"model: %s has placed generation %d, so none is made with number %d",
			name,
			highest,
			number,
		)
	case recent >= neverWrapped+p.Spares, pending >= neverWrappedInAll+p.Spares:
		return failed(key.Refused, "model: %d pairs of %s were never wrapped", pending, name)
	case len(h.days[name]) >= 10+2*(p.Budget+p.Spares):
		return failed(key.Refused, "model: %d pairs of %s were made within a day", len(h.days[name]), name)
	}
	return nil
}

// mayGo refuses a pair of a key that the configuration does not bring to the vault.
func (h *hsm) mayGo(o *object, url string) error {
	p := h.w.managed(o.label.Key).policy
	if _, ok := p.Vault(url); !ok || p.Retained {
		return failed(key.Refused, "model: the configuration does not bring key %s to %s", p.Key, url)
	}
	return nil
}

// trusts decides whether to trust a KEK as the real HSM side does.
func (h *hsm) trusts(kek key.KEK) (string, error) {
	print := kek.Material.Fingerprint()
	switch named, used := h.named[kek.Vault], h.trust[kek.Vault]; {
	case slices.Contains(named, print):
		return key.TrustConfigured, nil
	case len(named) > 0:
		return "", failed(key.Refused, "model: the KEK of %s is not one that is configured", kek.Vault)
	case !h.firstUse(kek.Vault):
		return "", failed(key.Refused, "model: no KEK of %s is configured", kek.Vault)
	case used == "":
		return "would be first use", nil
	case used == print:
		return "first use", nil
	}
	return "", failed(key.Refused, "model: the KEK of %s is not the one first used", kek.Vault)
}

// firstUse reports whether the configuration trusts the KEK of the vault that is used first. The seed alone decides.
func (h *hsm) firstUse(url string) bool { return (h.w.result.Seed+uint64(len(url)))%3 != 0 }
