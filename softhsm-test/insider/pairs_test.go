package insider_test

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math"

	"github.com/keyd-project/keyd/internal/key"
)

func newID(w *world) key.ID {
	w.Helper()
	id, err := key.NewID(rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// made tries to get a pair made, and says what came of it.
func (w *world) made(name string, number int) string {
	id := newID(w)
	err := w.hsm.Generate(w.Context(), id, name, number, key.RSA2048, "")
	found, ferr := w.hsm.Find(w.Context(), id)
	switch {
	case ferr != nil:
		w.Fatal(ferr)
	case err == nil || len(found) > 0:
		return fmt.Sprintf("a pair of %s with number %d", name, number)
	case key.ClassOf(err) != key.Refused:
		return "an answer that is not a refusal: " + err.Error()
	}
	return ""
}

// pairs are attacks that fill the HSM, spoil numbers, or destroy what others need.
func pairs() []attack {
	return []attack{
		{"a pair of a key that is not configured", func(w *world) string { return w.made("three", 1) }},
		{"a pair with a number far ahead", func(w *world) string { return w.made("one", 999_999) }},
		{"the first pair of a key, with a number after which no other could follow", func(w *world) string {
			with := w.standard() + "  three: {spec: RSA-2048, vaults: [weu]}\n"
			return w.under(with, func() string { return w.made("three", math.MaxInt) })
		}},
		{"a pair with a number from before the placed one", func(w *world) string {
			w.keyd("rotate", "--now", "two", "--reason", "for the attack", "--timeout", "80s")
			return w.made("two", 1)
		}},
		{"more pairs than anybody needs", func(w *world) string {
			var ids []key.ID
			defer func() {
				for _, id := range ids {
					_ = w.hsm.Destroy(w.Context(), id)
				}
			}()
			for n := range 10 {
				id := newID(w)
				if err := w.hsm.Generate(w.Context(), id, "two", 10, key.RSA2048, ""); err != nil {
					if key.ClassOf(err) != key.Refused {
						return "an answer that is not a refusal: " + err.Error()
					}
					return ""
				}
				if ids = append(ids, id); n == 9 {
					return "ten pairs that nobody wraps"
				}
			}
			return ""
		}},
		{"the destruction of a pair in use", func(w *world) string {
			if err := w.hsm.Destroy(w.Context(), w.one); err == nil {
				return "a destroyed pair"
			}
			if found, err := w.hsm.Find(w.Context(), w.one); err != nil || len(found) != 1 || !found[0].Complete {
				return fmt.Sprintf("the pair is now %+v, %v", found, err)
			}
			return ""
		}},
		{"the destruction of another application's object without a label", func(w *world) string {
			id := newID(w)
			public, _ := w.kek.Material.RSA()
			der, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				w.Fatal(err)
			}
			w.write("object", string(der))
			out, err := w.token.Tool("--login", "--pin", w.token.PIN, "--token-label", w.token.Label, "--write-object",
				w.path("object"), "--type", "pubkey", "--id", string(id))
			if err != nil {
				w.Fatalf("%v: %s", err, out)
			}
			before := w.objects()
			if err := w.hsm.Destroy(w.Context(), id); err != nil {
				w.Errorf("where nothing is keyd's: %v", err)
			}
			if after := w.objects(); after != before {
				return "a token that was\n" + before + "and is\n" + after
			}
			return ""
		}},
	}
}

// objects lists what is on the token, as an operator sees it.
func (w *world) objects() string {
	w.Helper()
	out, err := w.token.Tool("--login", "--pin", w.token.PIN, "--token-label", w.token.Label, "--list-objects")
	if err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
