package attest_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

func TestAGenuineAttestationVerifiesInBothStylesOfFirmware(t *testing.T) {
	p := newPool(1)
	for firmware, style := range map[string]crypto.Hash{"2.x": 0, "3.x": crypto.SHA256} {
		raw := attest.Encode(p.sign(data(p.says()), style), encode(p.chain()...))
		f, err := attest.Verify(raw, p.roots(t), p.expect(), at)
		if err != nil {
			t.Errorf("firmware %s: %v", firmware, err)
		}
		if f.Firmware != firmware || !f.Local || !f.NeverExtractable || f.Decrypt || !f.Unwrap || !f.TestRoot ||
			f.PartitionRoot == "" || f.PartitionRoot == f.Partition || !f.Until.Equal(end) {
			t.Errorf("firmware %s: %+v", firmware, f)
		}
	}
}

func TestAnAttestationOfAnImportedKeyVerifies(t *testing.T) {
	p := newPool(1)
	says := with(with(p.says(), 0x163, 0), 0x164, 0)
	raw := attest.Encode(p.sign(data(says), crypto.SHA256), encode(p.chain()...))
	f, err := attest.Verify(raw, p.roots(t), p.expect(), at)
	if err != nil || f.Local || f.NeverExtractable {
		t.Errorf("%+v, %v", f, err)
	}
}

// refusal is an attestation, or what is expected of it, that is not good enough, and what the reason must say.
type refusal struct {
	reason string
	raw    func(p pool) []byte         // nil: the genuine one
	expect func(*attest.Expect)        // nil: the key itself
	at     time.Time                   // zero: at
	chain  func(p pool) []certificates // nil: the whole one
	says   func(p pool) []attribute    // nil: what is true
}

type certificates = *x509.Certificate

func (r refusal) verify(t *testing.T) error {
	t.Helper()
	p := newPool(1)
	says, chain, want, moment := p.says(), p.chain(), p.expect(), at
	if r.says != nil {
		says = r.says(p)
	}
	if r.chain != nil {
		chain = r.chain(p)
	}
	if r.expect != nil {
		r.expect(&want)
	}
	if !r.at.IsZero() {
		moment = r.at
	}
	raw := attest.Encode(p.sign(data(says), crypto.SHA256), encode(chain...))
	if r.raw != nil {
		raw = r.raw(p)
	}
	_, err := attest.Verify(raw, p.roots(t), want, moment)
	return err
}

func refusals() map[string]refusal {
	other := newPool(4)
	without := func(unwanted ...func(p pool) *x509.Certificate) func(p pool) []certificates {
		return func(p pool) (left []certificates) {
			for _, c := range p.chain() {
				keep := true
				for _, u := range unwanted {
					keep = keep && u(p) != c
				}
				if keep {
					left = append(left, c)
				}
			}
			return left
		}
	}
	pinned, err := attest.Verify(other.document(), []attest.Root{{Certificate: vendor().cert}}, attest.Expect{}, at)
	if err != nil {
		panic(err)
	}
	return map[string]refusal{
		"expired":       {reason: "expired at", at: end.Add(time.Second)},
		"not yet valid": {reason: "begins at", at: at.AddDate(-1, 0, -1)},
		"an HSM's certificate that expired": {reason: "the certificate of HSM expired", raw: func(p pool) []byte {
			p.hsm = certify("HSM", p.hsm.key, p.vendor, at.Add(-time.Second))
			return p.document()
		}},
		"another key": {reason: "with fingerprint", expect: func(e *attest.Expect) {
			last := "0"
			if strings.HasSuffix(string(e.Fingerprint), last) { // of a new pair in each run
				last = "1"
			}
			e.Fingerprint = e.Fingerprint[:len(e.Fingerprint)-1] + key.Fingerprint(last)
		}},
		"another name": {reason: "not sa-cmk-key", expect: func(e *attest.Expect) { e.Key = "sa-cmk-key" }},
		"another version": {
			reason: "is about version",
			expect: func(e *attest.Expect) { e.Version = "1" + version[1:] },
		},
		"a genuine chain of another pool, where the key has the same name": {
			reason: "of another Managed HSM",
			expect: func(e *attest.Expect) { e.PartitionRoot = pinned.PartitionRoot },
		},
		"no HSM's certificate": {
			reason: "cut off",
			chain:  without(func(p pool) *x509.Certificate { return p.hsm.cert }),
		},
		"no partition under the HSM": {
			reason: "signed by the HSM's: the chain is cut off",
			chain:  without(func(p pool) *x509.Certificate { return p.partition.cert }),
		},
		"no partition root": {
			reason: "no partition root",
			chain:  without(func(p pool) *x509.Certificate { return p.root.cert }),
		},
		"no claim of the partition": {
			reason: "certifies another partition",
			chain:  without(func(p pool) *x509.Certificate { return p.claim.cert }),
		},
		"a vendor's chain of another HSM": {reason: "of another HSM", chain: func(p pool) []certificates {
			return []certificates{other.partition.cert, other.hsm.cert, p.claim.cert, p.root.cert}
		}},
		"a partition root of another HSM": {reason: "the chains are of two HSMs", chain: func(p pool) []certificates {
			return []certificates{p.partition.cert, p.hsm.cert, other.claim.cert, other.root.cert}
		}},
		"another vendor": {reason: "signed by a root that keyd trusts", raw: func(p pool) []byte {
			p.vendor = certify("vendor", other.key, signer{}, end)
			p.hsm = certify("HSM", p.hsm.key, p.vendor, end)
			return p.document()
		}},
		"a statement that was changed": {reason: "it was changed", raw: func(p pool) []byte {
			statement := p.sign(data(p.says()), crypto.SHA256)
			statement[len(statement)-300] ^= 1
			return attest.Encode(statement, encode(p.chain()...))
		}},
		"a statement that the HSM's key signs, not the partition's": {
			reason: "it was changed",
			raw: func(p pool) []byte {
				p.partition.key = p.hsm.key
				return p.document()
			},
		},
		"a duplicate tag": {reason: "0x162 twice", says: func(p pool) []attribute {
			return append(p.says(), attribute{0x162, []byte{0}})
		}},
		"the public key instead of the private": {reason: "about the public key", says: func(p pool) []attribute {
			return with(p.says(), 0x0, 2)
		}},
		"a secret key": {reason: "class 4", says: func(p pool) []attribute { return with(p.says(), 0x0, 4) }},
		"an EC key": {
			reason: "not about an RSA key",
			says:   func(p pool) []attribute { return with(p.says(), 0x100, 3) },
		},
		"an extractable": {
			reason: "can be taken out",
			says:   func(p pool) []attribute { return with(p.says(), 0x162, 1) },
		},
		"a flag that is neither": {reason: "neither true nor false", says: func(p pool) []attribute {
			return with(p.says(), 0x162, 2)
		}},
		"no word on extraction": {reason: "0x162", says: func(p pool) []attribute {
			return p.says()[:len(p.says())-3]
		}},
		"an id that is no key's": {reason: "not /keys/NAME/VERSION", says: func(p pool) []attribute {
			return with(p.says(), 0x102, []byte("/keys/a/b/c")...)
		}},
		"more attributes than counted": {reason: "more than the attributes", raw: func(p pool) []byte {
			d := data(p.says())
			d[27]--
			return attest.Encode(p.sign(d, crypto.SHA256), encode(p.chain()...))
		}},
		"fewer attributes than counted": {reason: "within its attributes", raw: func(p pool) []byte {
			d := data(p.says())
			d[27]++
			return attest.Encode(p.sign(d[:len(d)-padding], crypto.SHA256), encode(p.chain()...))
		}},
		"a statement that is cut short": {reason: "cut short", raw: func(p pool) []byte {
			return attest.Encode([]byte("short"), encode(p.chain()...))
		}},
		"no attestation": {reason: "there is no attestation", raw: func(pool) []byte { return nil }},
		"something else": {reason: "lacks privateKeyAttestation", raw: func(pool) []byte { return []byte("{}") }},
		"no JSON": {
			reason: "not what a Managed HSM answers",
			raw:    func(pool) []byte { return []byte("!") },
		},
		"a huge attestation": {reason: "more than", raw: func(pool) []byte { return make([]byte, 1<<20) }},
	}
}

func TestAnAttestationIsRefusedWithItsReason(t *testing.T) {
	for what, r := range refusals() {
		t.Run(what, func(t *testing.T) {
			if err := r.verify(t); err == nil || !strings.Contains(err.Error(), r.reason) {
				t.Errorf("%v, want a reason that says %q", err, r.reason)
			}
		})
	}
}

func TestThePartitionRootTellsOnePoolFromAnother(t *testing.T) {
	one, other := newPool(1), newPool(4)
	f, err := attest.Verify(one.document(), one.roots(t), one.expect(), at)
	if err != nil {
		t.Fatal(err)
	}
	want := one.expect()
	want.PartitionRoot = f.PartitionRoot
	if _, err := attest.Verify(one.document(), one.roots(t), want, at); err != nil {
		t.Errorf("the pinned pool: %v", err)
	}
	if _, err := attest.Verify(other.document(), one.roots(t), one.expect(), at); err != nil {
		t.Errorf("another pool's chain is genuine, and only the partition root tells it apart: %v", err)
	}
}

// The service answers a key with its attestation, in base64url. az writes only the attestation, in base64.
func TestEachFormOfTheDocumentIsRead(t *testing.T) {
	p := newPool(1)
	statement, certificates := p.sign(data(p.says()), crypto.SHA256), encode(p.chain()...)
	inner, err := json.Marshal(map[string]string{
		"certificatePemFile":    base64.StdEncoding.EncodeToString(certificates),
		"privateKeyAttestation": base64.StdEncoding.EncodeToString(statement), "version": "MRVL-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := append(
		append([]byte(`{"key":{"kid":"k"},"attributes":{"enabled":true,"attestation":`), inner...),
		"}}"...)
	for form, raw := range map[string][]byte{"az": inner, "the service": whole, "keyd": p.document()} {
		if _, err := attest.Verify(raw, p.roots(t), p.expect(), at); err != nil {
			t.Errorf("%s: %v", form, err)
		}
	}
	doc, err := attest.Parse(inner)
	if err != nil || !bytes.Equal(doc.Statement, statement) || len(doc.Certificates) != 5 {
		t.Errorf("%d certificates, %v", len(doc.Certificates), err)
	}
}

func TestATestRootIsOneSelfSignedCertificate(t *testing.T) {
	p := newPool(1)
	for what, raw := range map[string][]byte{
		"nothing": nil, "two": encode(p.vendor.cert, p.root.cert), "not a root": encode(p.hsm.cert),
	} {
		if _, err := attest.TestRoot(raw); err == nil {
			t.Errorf("%s: it is taken", what)
		}
	}
}

func TestTheVendorsRootsAreInTheProgram(t *testing.T) {
	roots := attest.Vendor()
	if len(roots) != 2 {
		t.Fatalf("%d roots", len(roots))
	}
	for _, r := range roots {
		if r.Test || r.Source == "" || r.Certificate.NotAfter.Before(at) {
			t.Errorf("%s: %+v", r.Name, r.Certificate.NotAfter)
		}
	}
}

func FuzzVerify(f *testing.F) {
	p := newPool(1)
	f.Add(p.document())
	f.Add([]byte(`{"certificatePemFile":"AA","privateKeyAttestation":"AA"}`))
	roots := []attest.Root{{Certificate: p.vendor.cert}}
	genuine := p.expect()
	f.Fuzz(func(t *testing.T, raw []byte) {
		facts, err := attest.Verify(raw, roots, attest.Expect{}, at)
		if err == nil && facts.Fingerprint != genuine.Fingerprint {
			t.Errorf("it says what no HSM signed: %+v", facts)
		}
	})
}
