package vault

import (
	"encoding/base64"
	"strings"
	"testing"
)

func token(claims string) string {
	return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2lnbmF0dXJl"
}

func TestAnIdentityIsReadFromEitherFormOfToken(t *testing.T) {
	for claims, want := range map[string]string{
		`{"appid":"a","oid":"o","tid":"t"}`:                        "client a, object o, tenant t",
		`{"azp":"a","oid":"o","tid":"t","xms_mirid":"/subs/1/id"}`: "client a, object o, tenant t, resource /subs/1/id",
		`{"appid":"a\nb"}`: "client a b",
		`{}`:               "a token that does not say who it is for",
		`[]`:               "a token that does not say who it is for",
	} {
		if got := identityIn(token(claims)).String(); got != want {
			t.Errorf("%s: %q, want %q", claims, got, want)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	for _, s := range []string{
		"", "a.b.c", token(`{"appid":"a"}`), token(`{"oid":1}`), token("{\"tid\":\"\x1b[2J\"}"),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if shown := identityIn(s).String(); shown == "" || strings.ContainsAny(shown, "\n\r\x1b") {
			t.Errorf("%q is shown as %q", s, shown)
		}
	})
}
