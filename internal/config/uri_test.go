package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestValidURIs(t *testing.T) {
	for text, want := range map[string]URI{
		"pkcs11:token=keyd?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/keyd/pin": {
			Token: "keyd", ModulePath: "/usr/lib/softhsm/libsofthsm2.so", PINSource: "/etc/keyd/pin"},
		"PKCS11:serial=0042;manufacturer=SoftHSM%20project;model=SoftHSM%20v2;token=a+b%3B%25": {
			Serial: "0042", Manufacturer: "SoftHSM project", Model: "SoftHSM v2", Token: "a+b;%"},
		"pkcs11:token=caf%C3%A9?pin-source=/etc/pin":    {Token: "café", PINSource: "/etc/pin"},
		"pkcs11:token=a&b?pin-source=file:///etc/%70in": {Token: "a&b", PINSource: "/etc/pin"},
		"pkcs11:?module-path=/a|b?c":                    {ModulePath: "/a|b?c"},
		"pkcs11:":                                       {},
	} {
		got, err := ParseURI(text)
		if err != nil || got != want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
}

func TestInvalidURIs(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "does not begin with pkcs11:",
		"http://x":               "does not begin with pkcs11:",
		"pkcs11:token":           "name=value",
		"pkcs11:token=a;":        "name=value",
		"pkcs11:token=a?":        "name=value",
		"pkcs11:=a":              "name=value",
		"pkcs11:token=":          "token is empty",
		"pkcs11:token=a;token=a": "token appears twice",
		"pkcs11:token=a?pin-source=/a&pin-source=/a":     "pin-source appears twice",
		"pkcs11:token=a b":                               "must be encoded",
		"pkcs11:token=a/b":                               "must be encoded",
		"pkcs11:token=a#b":                               "must be encoded",
		"pkcs11:token=é":                                 "must be encoded",
		"pkcs11:token=%4":                                "without two hex digits",
		"pkcs11:token=%zz":                               "without two hex digits",
		"pkcs11:token=%ff":                               "is not text",
		"pkcs11:token=a%00":                              "is not text",
		"pkcs11:token=123456789012345678901234567890123": "longer than the 32 bytes",
		"pkcs11:tokne=a":                                 "is not read; did you mean token?",
		"pkcs11:object=a":                                "names an object",
		"pkcs11:slot-id=1":                               "is not read",
		"pkcs11:x-mine=1":                                "vendor attribute",
		"pkcs11:token=a?x-mine=1":                        "vendor attribute",
		"pkcs11:token=a?module-name=x":                   "module-name is not read",
		"pkcs11:token=a?module-path=lib.so":              "not an absolute path",
		"pkcs11:token=a;pin-source=/a":                   "not a path attribute",
		"pkcs11:token=a?pin-value=1234":                  "puts the PIN into the configuration",
		"pkcs11:token=a?pin-source=%7Ccat%20x":           "a command is never run",
		"pkcs11:token=a?pin-source=pin":                  "neither an absolute path nor a file: URI",
		"pkcs11:token=a?pin-source=file:pin":             "neither an absolute path nor a file: URI",
		"pkcs11:token=a?pin-source=file://h/pin":         "neither an absolute path nor a file: URI",
		"pkcs11:token=a?pin-source=file:/a%2520b":        "encoded characters",
	} {
		got, err := ParseURI(text)
		if err == nil {
			t.Errorf("%s was accepted as %+v, want an error with %q", text, got, want)
			continue
		}
		var f fault
		ok := errors.As(err, &f)
		if !ok || !strings.Contains(f.Error(), want) || f.remedy == "" {
			t.Errorf("%s: %v, want a fault with %q and a remedy", text, err, want)
		}
	}
}

func TestURIErrorsNeverShowAPIN(t *testing.T) {
	for _, text := range []string{
		"pkcs11:token=a?pin-value=48151623", "pkcs11:pin-value=48151623", "pkcs11:token=a?pin-source=48151623",
		"pkcs11:token=a?pin-source=file:48151623",
	} {
		if _, err := ParseURI(text); err == nil || strings.Contains(err.Error(), "48151623") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("pkcs11:token=keyd?module-path=/usr/lib/x.so&pin-source=file:/etc/keyd/pin")
	f.Add("pkcs11:serial=%30;model=a+b")
	f.Add("pkcs11:token=a?pin-value=1")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			if u != (URI{}) {
				t.Errorf("%q: an error and %+v", text, u)
			}
			return
		}
		for _, p := range []string{u.ModulePath, u.PINSource} {
			if p != "" && !filepath.IsAbs(p) {
				t.Errorf("%q: %q is not an absolute path", text, p)
			}
		}
	})
}
