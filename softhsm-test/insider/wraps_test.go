package insider_test

import (
	"crypto/rsa"
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// theirs is the attacker's own KEK, called one of that vault.
func (w *world) theirs(host string) key.KEK {
	kek := w.kek
	kek.Vault, kek.Kid = urlOf(host), urlOf(host)+"/keys/keyd-kek/00112233445566778899aabbccddeeff"
	return kek
}

// wrapped tries to get a pair wrapped to a KEK, and says what came of it.
func (w *world) wrapped(id key.ID, kek key.KEK) string {
	blob, err := w.hsm.WrapFor(w.Context(), id, kek)
	if err == nil || len(blob) > 0 {
		return fmt.Sprintf("a private key, wrapped in %d bytes", len(blob))
	}
	if key.ClassOf(err) != key.Refused {
		return "an answer that is not a refusal: " + err.Error()
	}
	if strings.Contains(err.Error(), `fingerprints: [`) {
		return "a message that approves its KEK when pasted: " + err.Error()
	}
	return ""
}

// wraps are attacks that want a private key wrapped to a key whose private half the attacker has.
func wraps() []attack {
	return []attack{
		{"a placed pair for the attacker's own KEK, as that of its vault", func(w *world) string {
			return w.wrapped(w.one, w.theirs(pinnedHost))
		}},
		{"a placed pair for the attacker's own KEK, as that of a vault without a pin", func(w *world) string {
			return w.wrapped(w.one, w.theirs(unpinnedHost))
		}},
		{"a placed pair for a vault that trusts at first use and has another key", func(w *world) string {
			return w.wrapped(w.one, w.theirs(firstHost))
		}},
		{"a placed pair for a vault that is not configured", func(w *world) string {
			return w.wrapped(w.one, w.theirs("attacker.vault.azure.net"))
		}},
		{"a new pair for a vault that trusts at first use and has used another KEK", func(w *world) string {
			return w.wrapped(w.placed("two"), w.theirs(firstHost))
		}},
		{"a KEK with the id of another vault", func(w *world) string {
			kek := w.realKEK()
			kek.Kid = w.theirs("attacker.vault.azure.net").Kid
			return w.wrapped(w.one, kek)
		}},
		{"a KEK with an id that is none", func(w *world) string {
			kek := w.realKEK()
			kek.Kid = strings.Repeat("k", 1000)
			return w.wrapped(w.one, kek)
		}},
		{"the pinned KEK with exponent 1, which encrypts nothing", func(w *world) string {
			kek := w.realKEK()
			public, _ := kek.Material.RSA()
			weak, err := key.FromRSA(&rsa.PublicKey{N: public.N, E: 1})
			if err != nil {
				return "" // such a key cannot even be sent
			}
			kek.Material = weak
			return w.wrapped(w.one, kek)
		}},
		{"a pair of a pinned vault for the pinned KEK, called that of a vault without a pin", func(w *world) string {
			kek := w.realKEK()
			kek.Vault = urlOf(unpinnedHost)
			return w.wrapped(w.one, kek)
		}},
	}
}
