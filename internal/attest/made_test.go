package attest_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

var update = flag.Bool("update", false, "make the KEKs in testdata anew, with new keys")

// The KEKs in testdata/made are for the tests of other rooms: one, and one of another pool that has the same name and
// version. Nobody has the private keys any more.
const (
	madeURL = "https://contoso.managedhsm.azure.net"
	made    = "testdata/made"
)

func TestTheKEKsForOtherRoomsVerify(t *testing.T) {
	if *update {
		makeKEKs(t)
	}
	roots := madeRoots(t)
	var seen []attest.Facts
	for _, file := range []string{"kek.json", "other-kek.json"} {
		kek := madeKEK(t, file)
		f, err := attest.Rule{Required: true, Roots: roots, KEK: name}.OfKEK(kek, at)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		seen = append(seen, f)
	}
	if seen[0].PartitionRoot == seen[1].PartitionRoot || seen[0].Key != seen[1].Key {
		t.Errorf("not the same name in two pools: %+v", seen)
	}
}

func makeKEKs(t *testing.T) {
	t.Helper()
	for file, first := range map[string]int{"kek.json": 1, "other-kek.json": 4} {
		p := newPool(first)
		m, err := key.FromRSA(&p.key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.MarshalIndent(
			key.KEK{Vault: madeURL, Kid: madeURL + "/keys/" + name + "/" + version, Material: m,
				Attestation: string(p.document())},
			"",
			"  ",
		)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, append(b, '\n'))
		if first == 1 {
			write(t, "attestation.json", append(p.document(), '\n'))
			write(t, "root.pem", encode(p.vendor.cert))
		}
	}
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(made, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(made, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func madeRoots(t *testing.T) []attest.Root {
	t.Helper()
	roots, err := attest.TestRoot(read(t, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func madeKEK(t *testing.T, file string) (kek key.KEK) {
	t.Helper()
	if err := json.Unmarshal(read(t, file), &kek); err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestAKEKMustBeTheOneThatTheRuleNames(t *testing.T) {
	rule := attest.Rule{Required: true, Roots: madeRoots(t), KEK: name}
	genuine, other := madeKEK(t, "kek.json"), madeKEK(t, "other-kek.json")
	f, err := rule.OfKEK(genuine, at)
	if err != nil {
		t.Fatal(err)
	}
	pinned := rule
	pinned.PartitionRoot = f.PartitionRoot
	named := rule
	named.KEK = "another"
	elsewhere := genuine
	elsewhere.Kid = madeURL + "/keys/" + name + "/" + "1" + version[1:]
	vendors := rule
	vendors.Roots = attest.Vendor()
	without := genuine
	without.Attestation = ""
	for what, c := range map[string]struct {
		rule   attest.Rule
		kek    key.KEK
		reason string
	}{
		"the pinned pool":          {pinned, genuine, ""},
		"another pool":             {pinned, other, "of another Managed HSM"},
		"another name":             {named, genuine, "kek.name"},
		"another version":          {rule, elsewhere, "is about version"},
		"no attestation":           {rule, without, "there is no attestation"},
		"no id of a key":           {rule, key.KEK{Kid: "x"}, "not the id of a key"},
		"under the vendor's roots": {vendors, genuine, "a root that keyd trusts"},
	} {
		if _, err := c.rule.OfKEK(c.kek, at); !says(err, c.reason) {
			t.Errorf("%s: %v, want %q", what, err, c.reason)
		}
	}
}

// says reports whether an error says reason; "": that there is none.
func says(err error, reason string) bool {
	if err == nil || reason == "" {
		return err == nil && reason == ""
	}
	return bytes.Contains([]byte(err.Error()), []byte(reason))
}

// The vault's word that its KEK only imports cannot be seen in an attestation, but that it decrypts can.
func TestAKEKThatDecryptsIsNotTrustedByThePoolAlone(t *testing.T) {
	p := newPool(1)
	m, err := key.FromRSA(&p.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	document := func(all []attribute) string {
		return string(attest.Encode(p.sign(data(all), 0), encode(p.chain()...)))
	}
	rule := attest.Rule{Roots: p.roots(t), KEK: name, Alone: true}
	kek := key.KEK{Vault: madeURL, Kid: madeURL + "/keys/" + name + "/" + version, Material: m}
	kek.Attestation = document(with(p.says(), 0x105, 1))
	if _, err := rule.OfKEK(kek, at); !says(err, "it decrypts") {
		t.Errorf("it is trusted: %v", err)
	}
	rule.Alone = false // a fingerprint pins it
	if _, err := rule.OfKEK(kek, at); err != nil {
		t.Error(err)
	}
}

func TestRecordedEvidenceVerifiesAgainAsOfItsTime(t *testing.T) {
	p := newPool(1)
	e := attest.Judge(string(p.document()), nil, p.roots(t), p.expect(), at)
	if e.Result != attest.Verified || e.Why != "" || e.Says == "" {
		t.Fatalf("%+v", e)
	}
	again, ok := attest.FromFields(e.Fields())
	if !ok {
		t.Fatal("the fields do not have it")
	}
	if f, err := again.Verify(p.roots(t), p.expect(), at); err != nil || f.String() != e.Says {
		t.Errorf("%v, %v", f, err)
	}
	if _, err := again.Verify(p.roots(t), p.expect(), end.AddDate(0, 0, 1)); !says(err, "expired") {
		t.Errorf("as of another time: %v", err)
	}
	if _, err := again.Verify(attest.Vendor(), p.expect(), at); !says(err, "a root that keyd trusts") {
		t.Errorf("under the vendor's roots: %v", err)
	}
	other := p.expect()
	other.Version = "1" + version[1:]
	if _, err := again.Verify(p.roots(t), other, at); !says(err, "is about version") {
		t.Errorf("for another version: %v", err)
	}
}

func TestEvidenceSaysWhyItIsNone(t *testing.T) {
	p := newPool(1)
	bad := attest.Judge("{}", nil, p.roots(t), p.expect(), at)
	if bad.Result != attest.Refused || bad.Why == "" {
		t.Errorf("%+v", bad)
	}
	none := attest.Judge("", os.ErrDeadlineExceeded, p.roots(t), p.expect(), at)
	if none.Result != attest.Unavailable || none.Why != os.ErrDeadlineExceeded.Error() {
		t.Errorf("%+v", none)
	}
	if _, err := none.Verify(p.roots(t), p.expect(), at); err == nil {
		t.Error("nothing verifies")
	}
	if _, ok := attest.FromFields(map[string]string{"checked": "modulus"}); ok {
		t.Error("an entry without an attestation has one")
	}
}
