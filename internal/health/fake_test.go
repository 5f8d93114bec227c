package health

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	weu = "https://contoso-weu.vault.azure.net"
	hsm = "https://contoso.managedhsm.azure.net"
)

// onePair is small, so that days of proofs take seconds.
var onePair = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 1024) })

// world is an HSM and vaults that hold one RSA key under every version.
type world struct {
	pair  *rsa.PrivateKey
	print key.Fingerprint

	mu      sync.Mutex
	keys    []stored
	saved   uint64          // how often the records were changed
	reads   int             // of records
	gone    map[string]bool // vaults that the configuration lacks
	fail    func(vault, version string, leg proof.Leg) error
	wrong   map[string]bool // versions that show another modulus
	proofs  map[string][]time.Time
	shown   map[string]bool // versions of which a proof has the answer to its Get
	gets    int
	under   map[string]int // first calls of proofs under way, by vault
	most    int
	latency time.Duration
	expires time.Time // of every version
	// closed has the sum of each secret that a vault encrypted and the HSM has not decrypted yet. So decrypting it
	// needs no private operation.
	closed map[string][sha256.Size]byte
}

func newWorld(t *testing.T, keys ...stored) *world {
	t.Helper()
	pair, err := onePair()
	if err != nil {
		t.Fatal(err)
	}
	m, err := key.FromRSA(&pair.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	print := m.Fingerprint()
	w := &world{pair: pair, print: print, keys: keys, gone: map[string]bool{}, wrong: map[string]bool{},
		shown: map[string]bool{}, proofs: map[string][]time.Time{}, under: map[string]int{},
		closed: map[string][sha256.Size]byte{}}
	for i := range keys {
		for j := range keys[i].Record.Generations {
			keys[i].Record.Generations[j].Fingerprint = print
		}
	}
	return w
}

func (w *world) health(t *testing.T, change func(*Config)) (*Health, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	c := Config{
		HSM: w, Clock: time.Now, Metrics: NewMetrics(reg),
		Vaults: func(url string) proof.Vault {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.gone[url] {
				return nil
			}
			return fakeVault{w, url}
		},
		Keys: func(context.Context) ([]Key, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			var keys []Key
			for _, k := range w.keys {
				keys = append(keys, KeyOf(k.Policy, w.saved))
			}
			return keys, nil
		},
		Record: func(_ context.Context, name string) (record.Record, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.reads++
			for _, k := range w.keys {
				if k.Policy.Key == name {
					return k.Record, nil
				}
			}
			return record.Record{}, nil
		},
	}
	if change != nil {
		change(&c)
	}
	return New(c), reg
}

func (w *world) do(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// save changes records.
func (w *world) save(change func()) { w.do(func() { change(); w.saved++ }) }

func (w *world) times(version string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.proofs[version]...)
}

func (w *world) failure(vault, version string, leg proof.Leg) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail == nil {
		return nil
	}
	return w.fail(vault, version, leg)
}

func (w *world) Opens(_ context.Context, _ key.ID, ciphertext []byte, sum [sha256.Size]byte) (bool, error) {
	if err := w.failure("", "", proof.LegHSM); err != nil {
		return false, err
	}
	var was [sha256.Size]byte
	known := false
	w.do(func() {
		was, known = w.closed[string(ciphertext)]
		delete(w.closed, string(ciphertext))
	})
	if known {
		return was == sum, nil
	}
	opened, err := rsa.DecryptOAEP(sha256.New(), nil, w.pair, ciphertext, nil)
	got := sha256.Sum256(opened)
	return err == nil && bytes.Equal(got[:], sum[:]), nil
}

type fakeVault struct {
	w   *world
	url string
}

func (v fakeVault) ClockSkew() (time.Duration, bool) { return 0, false }

// begin notes the first call of a proof.
func (v fakeVault) begin(ctx context.Context, version string) error {
	v.w.do(func() {
		v.w.proofs[version] = append(v.w.proofs[version], time.Now())
		v.w.under[v.url]++
		v.w.most = max(v.w.most, v.w.under[v.url])
	})
	defer v.w.do(func() { v.w.under[v.url]-- })
	if v.w.latency > 0 {
		select {
		case <-time.After(v.w.latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (v fakeVault) Get(ctx context.Context, _, version string) (key.Version, error) {
	v.w.do(func() { v.w.gets++ })
	if err := v.begin(ctx, version); err != nil {
		return key.Version{}, err
	}
	pub := v.w.pair.PublicKey
	v.w.do(func() {
		if v.w.wrong[version] {
			pub.E = 3
		}
	})
	m, err := key.FromRSA(&pub)
	if err != nil {
		return key.Version{}, err
	}
	if err := v.w.failure(v.url, version, proof.LegModulus); err != nil {
		return key.Version{}, err
	}
	v.w.do(func() { v.w.shown[version] = true })
	return key.Version{ID: version, Material: m, Expires: v.w.expires}, nil
}

func (v fakeVault) Wrap(_ context.Context, _, version string, plaintext []byte) ([]byte, error) {
	if err := v.w.failure(v.url, version, proof.LegWrap); err != nil {
		return nil, err
	}
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &v.w.pair.PublicKey, plaintext, nil)
	v.w.do(func() { v.w.closed[string(ciphertext)] = sha256.Sum256(plaintext) })
	return ciphertext, err
}

func (v fakeVault) Unwrap(ctx context.Context, _, version string, ciphertext []byte) ([]byte, error) {
	asked, wrong := false, false
	v.w.do(func() {
		asked, wrong = v.w.shown[version], v.w.wrong[version]
		delete(v.w.shown, version)
	})
	if !asked {
		if err := v.begin(ctx, version); err != nil {
			return nil, err
		}
	}
	if wrong {
		return []byte("something else"), nil
	}
	if err := v.w.failure(v.url, version, proof.LegUnwrap); err != nil {
		return nil, err
	}
	return rsa.DecryptOAEP(sha256.New(), nil, v.w.pair, ciphertext, nil)
}

var errUnused = errors.New("not used by these tests")

func (fakeVault) Encrypt(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errUnused
}

func (fakeVault) Decrypt(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errUnused
}

func (fakeVault) Sign(context.Context, string, string, []byte) ([]byte, error) {
	return nil, errUnused
}

func version(name string, number int) string { return fmt.Sprintf("%s-v%d", name, number) }

// stored is a key with its record.
type stored struct {
	Policy key.Policy
	Record record.Record
}

// managed returns a key with this many generations in one vault, all enabled.
func managed(name, vault string, generations int, provenAt time.Time) stored {
	nickname := "weu"
	if vault == hsm {
		nickname = "mhsm"
	}
	k := stored{
		Policy: key.Policy{Key: name, Operations: []key.Operation{key.WrapKey, key.UnwrapKey},
			Vaults: []key.Vault{{Name: nickname, URL: vault}}},
		Record: record.Record{Key: name},
	}
	for n := 1; n <= generations; n++ {
		state := key.Superseded
		if n == generations {
			state = key.Proven
		}
		k.Record.Generations = append(k.Record.Generations, record.Generation{
			Number: n, ID: key.ID(fmt.Sprintf("%032x", n)),
			Placements: []record.Placement{{Seq: n, Vault: vault, VaultName: nickname, State: state,
				Version: version(name, n), ProvenAt: provenAt}},
		})
	}
	return k
}
