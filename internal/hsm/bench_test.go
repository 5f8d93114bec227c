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

// BenchmarkHop shows what the hop between the processes costs: the same RSA-4096
// private operation inside the process and through the protocol, in turns, so
// that both meet the same machine. Its figures are medians; hop-% is the cost of
// the hop in percent of the operation. On a busy machine that is also the wait for
// a processor, so quiet-hop-% compares the fastest tenth of each.
func BenchmarkHop(b *testing.B) {
	direct := newOpening(b, inProcess(b, func(m module) module { return m }), key.RSA4096)
	through := newOpening(b, newRig(b).Client, key.RSA4096)
	var alone, hop []time.Duration
	for b.Loop() {
		alone = append(alone, direct.time(b))
		hop = append(hop, through.time(b))
	}
	b.ReportMetric(0, "ns/op") // of both together: says nothing
	b.ReportMetric(float64(quantile(alone, 50).Microseconds()), "direct-µs")
	b.ReportMetric(float64(quantile(hop, 50).Microseconds()), "protocol-µs")
	b.ReportMetric(more(alone, hop, 50), "hop-%")
	b.ReportMetric(more(alone, hop, 10), "quiet-hop-%")
}

// more is by how many percent b is slower than a, at a quantile of both.
func more(a, b []time.Duration, percent int) float64 {
	x, y := quantile(a, percent), quantile(b, percent)
	return 100 * float64(y-x) / float64(x)
}

// BenchmarkRecovery is the time from a killed HSM process to the next answer of
// Opens, with the pause before a first restart.
func BenchmarkRecovery(b *testing.B) {
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
	b.ReportMetric(float64(quantile(took, 50).Milliseconds()), "recovery-ms")
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
	PublicKey(ctx context.Context, id key.ID) (*rsa.PublicKey, error)
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
	if o.ciphertext, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public, secret, nil); err != nil {
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

func (o opening) time(b *testing.B) time.Duration {
	b.Helper()
	begun := time.Now()
	if err := o.open(b.Context()); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}

func quantile(d []time.Duration, percent int) time.Duration {
	slices.Sort(d)
	return d[len(d)*percent/100]
}
