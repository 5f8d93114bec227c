package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

// BenchmarkHop shows what the hop between the processes costs, for an RSA-4096
// private operation. In turns, so that all meet the same machine: the operation
// inside the process, the operation through the protocol, and, each after such an
// operation in the other process, a call of the same size that is answered without
// the token: through the protocol, and inside the process. The difference of these
// two is the hop. Its figures are medians; hop-% is the hop in percent of the
// operation. The difference of the first two says the same with the noise of both.
func BenchmarkHop(b *testing.B) {
	direct := newOpening(b, inProcess(b, func(m module) module { return m }), key.RSA4096)
	directNo := newOpening(b, direct.calls, key.RSA2048)
	client := supervised(b).Client()
	through := newOpening(b, client, key.RSA4096)
	throughNo := newOpening(b, client, key.RSA2048)
	// As long as an RSA-4096 ciphertext, so the answer is no at once.
	directNo.ciphertext, throughNo.ciphertext = direct.ciphertext, through.ciphertext
	var alone, both, crossing, staying []time.Duration
	for b.Loop() {
		alone = append(alone, direct.time(b, true))
		crossing = append(crossing, throughNo.time(b, false))
		both = append(both, through.time(b, true))
		staying = append(staying, directNo.time(b, false))
	}
	hop := median(crossing) - median(staying)
	b.ReportMetric(0, "ns/op") // of all together: says nothing
	b.ReportMetric(micros(median(alone)), "direct-µs")
	b.ReportMetric(micros(median(both)), "protocol-µs")
	b.ReportMetric(micros(hop), "hop-µs")
	b.ReportMetric(100*micros(hop)/micros(median(alone)), "hop-%")
}

// BenchmarkRecovery is the time from a killed HSM process to the next answer of
// Opens, with the pause before a first restart.
func BenchmarkRecovery(b *testing.B) {
	sup := supervised(b)
	o := newOpening(b, sup.Client(), key.RSA4096)
	var took []time.Duration
	for b.Loop() {
		if err := syscall.Kill(sup.PID(), syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		killed := time.Now()
		for o.open(b.Context()) != nil { // the call that the kill cut off
		}
		took = append(took, time.Since(killed))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(took).Milliseconds()), "recovery-ms")
}

// supervised is an HSM process with the pings and pauses that keyd has.
func supervised(b *testing.B) *Supervisor {
	b.Helper()
	tok := softhsmtest.New(b)
	sup := NewSupervisor(ChildConfig{
		Argv: argv(b), Env: environ(b, tok, newChild(b, tok)),
		Pause: func(int) time.Duration { return backoff(1) },
		Log:   slog.New(slog.DiscardHandler), Register: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = sup.Run(ctx) })
	b.Cleanup(func() { cancel(); running.Wait() })
	return sup
}

// opening is a private operation that can be repeated.
type opening struct {
	calls      openCalls
	id         key.ID
	ciphertext []byte
	sum        [32]byte
}

type openCalls interface {
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec) error
	PublicKey(ctx context.Context, id key.ID) (key.Material, error)
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error)
}

// newOpening makes a pair of the spec and a ciphertext that it opens.
func newOpening(b *testing.B, calls openCalls, spec key.Spec) opening {
	b.Helper()
	o := opening{calls: calls, id: newID(b)}
	if err := calls.Generate(b.Context(), o.id, "bench", 1, spec); err != nil {
		b.Fatal(err)
	}
	public, err := calls.PublicKey(b.Context(), o.id)
	if err != nil {
		b.Fatal(err)
	}
	secret := []byte("secret")
	o.sum = sha256.Sum256(secret)
	if o.ciphertext, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, rsaOf(public), secret, nil); err != nil {
		b.Fatal(err)
	}
	return o
}

func (o opening) open(ctx context.Context) error {
	yes, err := o.calls.Opens(ctx, o.id, o.ciphertext, o.sum)
	if err == nil && !yes {
		err = errors.New("the pair does not open its own ciphertext")
	}
	return err
}

// time is how long it takes to be told whether the ciphertext opens, which the
// caller knows.
func (o opening) time(b *testing.B, opens bool) time.Duration {
	b.Helper()
	begun := time.Now()
	yes, err := o.calls.Opens(b.Context(), o.id, o.ciphertext, o.sum)
	if err != nil || yes != opens {
		b.Fatal(yes, err)
	}
	return time.Since(begun)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
