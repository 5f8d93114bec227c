package simulate

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"math/bits"
	"math/rand/v2"

	"github.com/keyd-project/keyd/internal/key"
)

// Primes are primes just below 2^64, of which the models make RSA keys. A modulus is
// the product of as many as its size needs. So a new key takes microseconds, and its
// private operation, one small prime at a time, does too. Such keys protect nothing,
// but crypto/rsa takes their public halves.
type Primes []uint64

const (
	poolSize = 256
	exponent = 65537
)

// NewPrimes finds the primes, which are always the same.
func NewPrimes() Primes {
	var out Primes
	for p := uint64(math.MaxUint64); len(out) < poolSize; p -= 2 {
		if p%exponent != 1 && new(big.Int).SetUint64(p).ProbablyPrime(0) {
			out = append(out, p)
		}
	}
	return out
}

// material is one RSA key.
type material struct {
	primes []uint64
	pub    *rsa.PublicKey
	shown  key.Material // pub, as the HSM and vaults show it
	print  key.Fingerprint
}

// draw makes a key of the given size in bits. rnd alone decides which one.
func (ps Primes) draw(rnd *rand.Rand, size int) *material {
	m := &material{pub: &rsa.PublicKey{N: big.NewInt(1), E: exponent}}
	for _, i := range rnd.Perm(len(ps))[:size/64] {
		m.primes = append(m.primes, ps[i])
		m.pub.N.Mul(m.pub.N, new(big.Int).SetUint64(ps[i]))
	}
	var err error
	if m.shown, err = key.FromRSA(m.pub); err != nil {
		panic(err)
	}
	m.print = m.shown.Fingerprint()
	return m
}

// Pair is a key for the models of other packages.
type Pair struct {
	PublicKey rsa.PublicKey
	Open      func(ciphertext []byte) ([]byte, error) // RSA-OAEP with SHA-256
	Sign      func(digest []byte) []byte              // RS256
}

// Pair makes a key of the given size in bits. rnd alone decides which one.
func (ps Primes) Pair(rnd *rand.Rand, size int) *Pair {
	m := ps.draw(rnd, size)
	return &Pair{*m.pub, m.open, m.sign}
}

// private is the private operation (RFC 8017 section 5.1.2). It computes a result for
// each prime, and combines them by the Chinese remainder theorem.
func (m *material) private(c *big.Int) *big.Int {
	x, product := new(big.Int), big.NewInt(1)
	for _, p := range m.primes {
		r := power(mod(c, p), inverse(exponent, p-1), p)
		diff := r + p - mod(x, p)
		if diff < r || diff >= p { // over 2^64, or not reduced
			diff -= p
		}
		t := times(diff, power(mod(product, p), p-2, p), p)
		x.Add(x, new(big.Int).Mul(product, new(big.Int).SetUint64(t)))
		product.Mul(product, new(big.Int).SetUint64(p))
	}
	return x
}

func mod(x *big.Int, p uint64) uint64 {
	return new(big.Int).Mod(x, new(big.Int).SetUint64(p)).Uint64()
}

func times(a, b, p uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return bits.Rem64(hi, lo, p)
}

func power(base, exp, p uint64) uint64 {
	out := uint64(1)
	for ; exp > 0; exp >>= 1 {
		if exp&1 == 1 {
			out = times(out, base, p)
		}
		base = times(base, base, p)
	}
	return out
}

func inverse(a, n uint64) uint64 {
	return new(big.Int).ModInverse(new(big.Int).SetUint64(a), new(big.Int).SetUint64(n)).Uint64()
}

// open decrypts RSA-OAEP with SHA-256 (RFC 8017 section 7.1.2).
func (m *material) open(ciphertext []byte) ([]byte, error) {
	const h = sha256.Size
	em := m.private(new(big.Int).SetBytes(ciphertext)).FillBytes(make([]byte, m.pub.Size()))
	seed, db := em[1:1+h], em[1+h:]
	mask(seed, db)
	mask(db, seed)
	label := sha256.Sum256(nil)
	end := bytes.IndexByte(db[h:], 1)
	if em[0] != 0 || !bytes.Equal(db[:h], label[:]) || end < 0 {
		return nil, errors.New("not a ciphertext of this key")
	}
	return db[h+end+1:], nil
}

// mask applies MGF1 with SHA-256 (RFC 8017 appendix B.2.1).
func mask(out, seed []byte) {
	for i := 0; i*sha256.Size < len(out); i++ {
		block := sha256.Sum256(binary.BigEndian.AppendUint32(bytes.Clone(seed), uint32(i)))
		part := out[i*sha256.Size:]
		for j := range min(len(part), len(block)) {
			part[j] ^= block[j]
		}
	}
}

// sign signs a SHA-256 digest by RS256 (RFC 8017 section 8.2.1).
func (m *material) sign(digest []byte) []byte {
	info := append(
		[]byte{
			0x30,
			0x31,
			0x30,
			0x0d,
			0x06,
			0x09,
			0x60,
			0x86,
			0x48,
			0x01,
			0x65,
			0x03,
			0x04,
			0x02,
			0x01,
			0x05,
			0x00,
			0x04,
			0x20,
		},
		digest...)
	size := m.pub.Size()
	em := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, size-len(info)-3)...)
	em = append(append(em, 0), info...)
	return m.private(new(big.Int).SetBytes(em)).FillBytes(make([]byte, size))
}
