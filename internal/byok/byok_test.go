package byok

import (
	"bytes"
	"strings"
	"testing"
)

const (
	testKid     = "https://contoso-weu.vault.azure.net/keys/keyd-kek/0123456789abcdef0123456789abcdef"
	testVersion = "0123456789abcdef0123456789abcdef"
)

// Some Managed HSMs return key ids with the port, and the blob names the KEK as the service does.
func TestAKidMayNameThePort443(t *testing.T) {
	kid := strings.Replace(testKid, "/keys/", ":443/keys/", 1)
	blob, err := Encode(kid, []byte{1}, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(blob); err != nil || got.Kid != kid {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEncodeWritesTheSpecificationsForm(t *testing.T) {
	got, err := Encode(testKid, []byte{0xfb, 0xff, 0xfe, 0x00}, "keyd 1.0.0;SoftHSM v2")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"schema_version":"1.0.0","header":{"kid":"` + testKid +
		`","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"-__-AA","generator":"keyd 1.0.0;SoftHSM v2"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseReturnsWhatWasEncoded(t *testing.T) {
	ciphertext := bytes.Repeat([]byte{0xa5}, 2896)
	data, err := Encode(testKid, ciphertext, "keyd")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if b.Kid != testKid || b.Generator != "keyd" || !bytes.Equal(b.Ciphertext, ciphertext) {
		t.Errorf("got %+v", b)
	}
}

func TestEncodeRefusesWhatParseWouldRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		kid, generator string
		ciphertext     []byte
		want           string
	}{
		"no version":          {strings.TrimSuffix(testKid, "/"+testVersion), "", []byte{1}, "no version"},
		"no ciphertext":       {testKid, "", nil, "empty"},
		"huge ciphertext":     {testKid, "", make([]byte, MaxCiphertext+1), "limit"},
		"long generator":      {testKid, strings.Repeat("x", MaxGenerator+1), []byte{1}, "limit"},
		"generator with line": {testKid, "a\nb", []byte{1}, "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Encode(c.kid, c.ciphertext, c.generator)
			wantError(t, err, c.want)
		})
	}
}

func TestParseRefusesWithAReason(t *testing.T) {
	good := `{"schema_version":"1.0.0","header":{"kid":"` + testKid +
		`","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"-__-AA","generator":"g"}`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatalf("the unchanged document: %v", err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown field":        {`"generator":"g"`, `"generator":"g","x":1`, `unknown field "x"`},
		"field in other case":  {`"generator"`, `"Generator"`, `unknown field "Generator"`},
		"unknown header field": {`"alg":"dir"`, `"alg":"dir","typ":"JWE"`, `header: unknown field "typ"`},
		"other schema":         {`1.0.0`, `2.0.0`, `schema_version is "2.0.0"`},
		"other alg":            {`"dir"`, `"RSA-OAEP"`, `alg is "RSA-OAEP"`},
		"other enc":            {`CKM_RSA_AES_KEY_WRAP`, `CKM_RSA_PKCS`, `enc is "CKM_RSA_PKCS"`},
		"padded":               {`-__-AA`, `-__-AA==`, "padded"},
		"standard alphabet":    {`-__-AA`, `+//+AA`, "standard base64 alphabet"},
		"broken into lines":    {`-__-AA`, `-__-\nAA`, "broken into lines"},
		"stray bits":           {`-__-AA`, `-__-AB`, "not base64url"},
		"no ciphertext":        {`-__-AA`, ``, "empty"},
		"trailing data":        {`"g"}`, `"g"} {}`, "behind the JSON document"},
		"trailing rubbish":     {`"g"}`, `"g"}x`, "behind the JSON document"},
		"duplicate field": {`"generator":"g"`, `"generator":"g","ciphertext":"AAAA"`,
			`"ciphertext" appears twice`},
		"duplicate header field": {`"alg":"dir"`, `"alg":"dir","alg":"dir"`, `"alg" appears twice`},
		"kid without version":    {"/" + testVersion, "", "no version"},
		"kid with empty version": {testVersion, "", "no version"},
		"kid with short version": {testVersion, "0123", "32 lower-case hex digits"},
		"kid in plain http":      {"https://", "http://", "not a key id"},
		"kid at another port":    {"/keys/", ":8443/keys/", "not a key id"},
		"kid at a rooted name":   {"/keys/", "./keys/", "not a key id"},
		"kid with a user":        {"https://", "https://user@", "not a key id"},
		"kid with a query":       {testVersion, testVersion + "?x=1", "not a key id"},
		"kid of a secret":        {"/keys/", "/secrets/", "not a key id"},
		"kid is a number":        {`"` + testKid + `"`, `7`, `"kid" is not a string`},
		"kid is null":            {`"` + testKid + `"`, `null`, `"kid" is not a string`},
		"no header":              {`"header"`, `"generator"`, "appears twice"},
		"header is a string": {`{"kid":"` + testKid + `","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"}`, `"x"`,
			"header: not a JSON object"},
		"missing ciphertext":       {`"ciphertext":"-__-AA",`, ``, `"ciphertext" is missing`},
		"truncated":                {`,"generator":"g"}`, ``, "not JSON"},
		"an array":                 {good, `[]`, "not a JSON object"},
		"nothing":                  {good, ``, "missing"},
		"generator with a newline": {`"g"`, `"a\nb"`, "printable"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(strings.Replace(good, c.old, c.new, 1)))
			wantError(t, err, c.want)
		})
	}
	t.Run("too long", func(t *testing.T) {
		_, err := Parse([]byte(good + strings.Repeat(" ", MaxBlob)))
		wantError(t, err, "more than the limit")
	})
}

func FuzzParse(f *testing.F) {
	seed, err := Encode(testKid, []byte("ciphertext"), "keyd 1.0.0")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"header":{"kid":1}}`))
	f.Add([]byte(`{"header":{},"header":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Encode(b.Kid, b.Ciphertext, b.Generator)
		if err != nil {
			t.Fatalf("parsed %q but could not encode it: %v", data, err)
		}
		back, err := Parse(again)
		if err != nil || back.Kid != b.Kid || back.Generator != b.Generator ||
			!bytes.Equal(back.Ciphertext, b.Ciphertext) {
			t.Fatalf("%q came back as %+v, %v", data, back, err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("ciphertext"), "keyd")
	f.Fuzz(func(t *testing.T, ciphertext []byte, generator string) {
		data, err := Encode(testKid, ciphertext, generator)
		if err != nil {
			return
		}
		b, err := Parse(data)
		if err != nil || b.Generator != generator || !bytes.Equal(b.Ciphertext, ciphertext) {
			t.Fatalf("got %+v, %v", b, err)
		}
	})
}

func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want one with %q", err, part)
	}
}
