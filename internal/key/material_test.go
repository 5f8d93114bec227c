package key_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

func modulus(bits uint) *big.Int { // odd
	return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(1))
}

func rsaMaterial(t testing.TB, n *big.Int, e int) key.Material {
	t.Helper()
	m, err := key.FromRSA(&rsa.PublicKey{N: n, E: e})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKnownMaterialDescribesItself(t *testing.T) {
	t.Parallel()
	pub := &rsa.PublicKey{N: modulus(3072), E: 65537}
	m := rsaMaterial(t, pub.N, pub.E)
	if !m.Known() || m.State() != key.Known || m.Family() != key.FamilyRSA || m.Spec() != key.RSA3072 {
		t.Errorf("%q, %q, %q", m.State(), m.Family(), m.Spec())
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil || !bytes.Equal(m.SPKI(), der) {
		t.Errorf("SPKI %x, want %x (%v)", m.SPKI(), der, err)
	}
	if back, ok := m.RSA(); !ok || !back.Equal(pub) {
		t.Errorf("RSA gives %v", back)
	}
	back, _ := m.RSA()
	back.N.SetInt64(5)
	if again, _ := m.RSA(); !again.Equal(pub) {
		t.Error("who changes the public key that RSA gave changes the material")
	}
}

// Every record and every configuration contains fingerprints. A fingerprint must stay equal to what openssl pkey
// -pubin -outform DER | sha256sum prints for the key.
func TestTheFingerprintIsTheSumOfTheSPKI(t *testing.T) {
	t.Parallel()
	const want = key.Fingerprint("sha256:fd8837b2b6df38d42f9f13021c4ee8f1159bf4850261edaeaa6091cd036d362e")
	if got := rsaMaterial(t, modulus(2048), 65537).Fingerprint(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestOnlyKnownMaterialMatchesOrDoesNot(t *testing.T) {
	t.Parallel()
	m, other := rsaMaterial(t, modulus(2048), 65537), rsaMaterial(t, modulus(2048), 3)
	for _, c := range []struct {
		about  string
		m      key.Material
		pinned key.Fingerprint
		want   key.Match
	}{
		{"the same", m, m.Fingerprint(), key.MatchYes},
		{"another", m, other.Fingerprint(), key.MatchNo},
		{"nothing pinned", m, "", key.MatchNo},
		{"not shown", key.Material{}, m.Fingerprint(), key.MatchUnknown},
		{"not shown, nothing pinned", key.Material{}, "", key.MatchUnknown},
		{"unreadable", key.UnreadableMaterial(), m.Fingerprint(), key.MatchUnknown},
		{"unsupported", key.UnsupportedMaterial(), m.Fingerprint(), key.MatchUnknown},
	} {
		if got := c.m.Matches(c.pinned); got != c.want {
			t.Errorf("%s: %s, want %s", c.about, got, c.want)
		}
	}
}

func TestUnknownMaterialSaysNothingAboutItself(t *testing.T) {
	t.Parallel()
	for _, m := range []key.Material{{}, key.UnreadableMaterial(), key.UnsupportedMaterial()} {
		_, isRSA := m.RSA()
		if m.Known() || m.Family() != "" || m.Spec() != "" || m.Fingerprint() != "" || m.SPKI() != nil || isRSA {
			t.Errorf("%q says %+v", m.State(), m)
		}
	}
}

func TestAKeyThatIsNotRSAIsNoMaterial(t *testing.T) {
	t.Parallel()
	for about, pub := range map[string]*rsa.PublicKey{
		"none":              nil,
		"no modulus":        {E: 65537},
		"a zero modulus":    {N: new(big.Int), E: 65537},
		"negative":          {N: new(big.Int).Neg(modulus(2048)), E: 65537},
		"no exponent":       {N: modulus(2048)},
		"negative exponent": {N: modulus(2048), E: -3},
	} {
		if m, err := key.FromRSA(pub); err == nil || m != (key.Material{}) {
			t.Errorf("%s: %+v, %v", about, m, err)
		}
	}
}

func TestAJSONWebKeyIsAcceptedWithinLimits(t *testing.T) {
	t.Parallel()
	e := func(n int64) []byte { return big.NewInt(n).Bytes() }
	for about, c := range map[string]struct {
		n, e []byte
		want string // in the error
	}{
		"2048 bits":             {modulus(2048).Bytes(), e(65537), ""},
		"4096 bits, zeros":      {append([]byte{0, 0}, modulus(4096).Bytes()...), e(3), ""},
		"an odd size":           {modulus(2500).Bytes(), e(65537), ""}, // foreign versions must be seen
		"no modulus":            {nil, e(65537), "modulus has 0 bits"},
		"2047 bits":             {modulus(2047).Bytes(), e(65537), "2047 bits"},
		"4097 bits":             {modulus(4097).Bytes(), e(65537), "4097 bits"},
		"no exponent":           {modulus(2048).Bytes(), nil, "exponent"},
		"exponent 1":            {modulus(2048).Bytes(), e(1), "exponent"},
		"an even exponent":      {modulus(2048).Bytes(), e(65536), "exponent"},
		"an exponent of 2^31+1": {modulus(2048).Bytes(), e(1<<31 + 1), "exponent"},
	} {
		m, err := key.FromJWK(c.n, c.e)
		refused := err != nil && strings.Contains(err.Error(), c.want)
		if c.want == "" && (err != nil || !m.Known()) || c.want != "" && !refused {
			t.Errorf("%s: %+v, %v", about, m, err)
		}
	}
}

func TestMaterialPassesJSON(t *testing.T) {
	t.Parallel()
	type carrier struct {
		M key.Material `json:"m,omitzero"`
	}
	known := rsaMaterial(t, modulus(2048), 65537)
	for want, m := range map[string]key.Material{
		`{}`:                  {},
		`{"m":"unreadable"}`:  key.UnreadableMaterial(),
		`{"m":"unsupported"}`: key.UnsupportedMaterial(),
		`{"m":"` + base64.StdEncoding.EncodeToString(known.SPKI()) + `"}`: known,
	} {
		text, err := json.Marshal(carrier{m})
		if err != nil || string(text) != want {
			t.Errorf("%q is written as %s (%v), want %s", m.State(), text, err, want)
		}
		var back carrier
		if err := json.Unmarshal(text, &back); err != nil || back.M != m {
			t.Errorf("%s is read as %+v, %v", text, back, err)
		}
	}
}

func TestWhatNamesNoMaterialIsRefused(t *testing.T) {
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	good := rsaMaterial(t, modulus(2048), 65537).SPKI()
	for about, text := range map[string]string{
		"the word known": "known",
		"no base64":      "!",
		"no DER":         base64.StdEncoding.EncodeToString([]byte("x")),
		"cut short":      base64.StdEncoding.EncodeToString(good[:len(good)-1]),
		"more behind it": base64.StdEncoding.EncodeToString(append(bytes.Clone(good), 0)),
		"another family": base64.StdEncoding.EncodeToString(ec),
	} {
		m := key.UnreadableMaterial()
		if err := m.UnmarshalText([]byte(text)); err == nil || m != key.UnreadableMaterial() {
			t.Errorf("%s is read as %q (%v)", about, m.State(), err)
		}
	}
}

// Whatever the other process sends as material, keyd accepts only one key with one fingerprint, and sends it on
// unchanged.
func FuzzMaterial(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("unreadable"))
	f.Add([]byte("known"))
	for _, m := range []key.Material{rsaMaterial(f, big.NewInt(5), 3), rsaMaterial(f, modulus(2048), 65537)} {
		text, err := m.MarshalText()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var m, back key.Material
		if m.UnmarshalText(text) != nil {
			return
		}
		again, err := m.MarshalText()
		if err != nil || back.UnmarshalText(again) != nil || back != m {
			t.Errorf("%q is sent on as %q (%v)", text, again, err)
		}
		pub, isRSA := m.RSA()
		if isRSA != m.Known() {
			t.Errorf("%+v: RSA %t", m, isRSA)
		}
		if isRSA && (pub.N.Sign() <= 0 || pub.E < 1 || rsaMaterial(t, pub.N, pub.E) != m) {
			t.Errorf("%q is a key %v that is not its own material", text, pub)
		}
	})
}
