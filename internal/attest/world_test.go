package attest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

const (
	name    = "keyd-kek"
	version = "0123456789abcdef0123456789abcdef"
)

var at = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// pool is a Managed HSM with the vendor behind it, and one key.
type pool struct {
	vendor, hsm, root, partition, claim signer
	key                                 *rsa.PrivateKey
}

// signer is a certificate and its private key.
type signer struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

var keys = sync.OnceValue(func() (all []*rsa.PrivateKey) {
	for range 8 {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		all = append(all, k)
	}
	return all
})

// vendor certifies every pool here.
var vendor = sync.OnceValue(func() signer { return certify("vendor", keys()[0], signer{}, end) })

var end = at.AddDate(5, 0, 0)

// newPool makes a pool. Two pools have the vendor in common, and nothing else.
func newPool(first int) pool {
	k := keys()
	p := pool{vendor: vendor(), key: k[7]}
	p.hsm = certify("HSM", k[first], p.vendor, end)
	p.partition = certify("partition", k[first+1], p.hsm, end)
	p.root = certify("partition root", k[first+2], signer{}, end)
	p.claim = certify("partition", k[first+1], p.root, end)
	return p
}

func certify(subject string, k *rsa.PrivateKey, by signer, until time.Time) signer {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject},
		NotBefore: at.AddDate(-1, 0, 0), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if by.cert == nil {
		by = signer{template, k}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &k.PublicKey, by.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return signer{cert, k}
}

func (p pool) chain() []*x509.Certificate {
	return []*x509.Certificate{p.partition.cert, p.hsm.cert, p.vendor.cert, p.claim.cert, p.root.cert}
}

func (p pool) expect() attest.Expect {
	m, err := key.FromRSA(&p.key.PublicKey)
	if err != nil {
		panic(err)
	}
	return attest.Expect{Key: name, Version: version, Fingerprint: m.Fingerprint()}
}

func (p pool) roots(t *testing.T) []attest.Root {
	t.Helper()
	roots, err := attest.TestRoot(encode(p.vendor.cert))
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// attribute is one attribute of a statement.
type attribute struct {
	kind  uint32
	value []byte
}

// says is what the pool's HSM says of its key.
func (p pool) says() []attribute {
	id := append([]byte("/keys/"+name+"/"+version), make([]byte, 20)...)
	return []attribute{
		{0x0, []byte{3}}, {0x100, []byte{0}}, {0x102, id}, {0x105, []byte{0}}, {0x107, []byte{1}},
		{0x120, p.key.N.Bytes()}, {0x122, []byte{1, 0, 1}},
		{0x162, []byte{0}}, {0x163, []byte{1}}, {0x164, []byte{1}},
	}
}

// with replaces one attribute.
func with(all []attribute, kind uint32, value ...byte) []attribute {
	for i := range all {
		if all[i].kind == kind {
			all[i].value = value
		}
	}
	return all
}

func data(all []attribute) []byte {
	b := make([]byte, 32)
	binary.BigEndian.PutUint32(b[24:], uint32(len(all)))
	for _, a := range all {
		b = binary.BigEndian.AppendUint32(b, a.kind)
		b = binary.BigEndian.AppendUint32(b, uint32(len(a.value)))
		b = append(b, a.value...)
	}
	return append(b, make([]byte, padding)...)
}

const padding = 100 // zeros after the attributes

// sign is data ‖ signature, in a firmware's style.
func (p pool) sign(data []byte, style crypto.Hash) []byte {
	sum := sha256.Sum256(data)
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.partition.key, style, sum[:])
	if err != nil {
		panic(err)
	}
	return append(bytes.Clone(data), signature...)
}

func encode(all ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range all {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// document is what the pool answers.
func (p pool) document() []byte {
	return attest.Encode(p.sign(data(p.says()), crypto.SHA256), encode(p.chain()...))
}
