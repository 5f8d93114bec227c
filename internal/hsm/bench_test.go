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

// BenchmarkHop measures what the hop between the processes costs. It takes turns, so that all four calls meet the same
// machine:
//
//   - direct: an RSA-4096 private operation inside the process;
//   - protocol: the same operation through the protocol;
//   - a call of the same size that needs no token, inside the process and through the protocol, each after an operation
//     in the other process. The difference of these two is the hop.
//
// All figures are medians. hop-% is the hop in percent of the operation. protocol minus direct shows the same, but with
// the noise of two private operations.
func BenchmarkHop(b *testing.B) {
	direct := newOpening(b, inProcess(b, func(m module) module { return m }), key.RSA4096)
	directNo := newOpening(b, direct.calls, key.RSA2048)
	client := supervised(b).Client()
	through := newOpening(b, client, key.RSA4096)
	throughNo := newOpening(b, client, key.RSA2048)
	// Too long for an RSA-2048 pair, so the answer is no without the token.
	directNo.ciphertext, throughNo.ciphertext = direct.ciphertext, through.ciphertext
	var alone, both, crossing, staying []time.Duration
	for b.Loop() {
		alone = append(alone, direct.time(b, true))
		crossing = append(crossing, throughNo.time(b, false))
		both = append(both, through.time(b, true))
		staying = append(staying, directNo.time(b, false))
	}
	hop := median(crossing) - median(staying)
	b.ReportMetric(0, "ns/op") // the sum of all four says nothing
	b.ReportMetric(micros(median(alone)), "direct-µs")
	b.ReportMetric(micros(median(both)), "protocol-µs")
	b.ReportMetric(micros(hop), "hop-µs")
	b.ReportMetric(100*micros(hop)/micros(median(alone)), "hop-%")
}

// BenchmarkRecovery measures the time from the kill of an HSM process to the next answer of Opens. It includes the
// pause before a first restart.
func BenchmarkRecovery(b *testing.B) {
	sup := supervised(b)
	o := newOpening(b, sup.Client(), key.RSA4096)
	var took []time.Duration
	for b.Loop() {
		if err := syscall.Kill(sup.PID(), syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		killed := time.Now()
		for o.open(b.Context()) != nil { // the kill cuts off one call
		}
		took = append(took, time.Since(killed))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(median(took).Milliseconds()), "recovery-ms")
}

// supervised starts an HSM process with the pings and pauses of keyd run.
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
	Generate(ctx context.Context, id key.ID, name string, number int, spec key.Spec, known key.ID) error
	PublicKey(ctx context.Context, id key.ID) (key.Material, error)
	Opens(ctx context.Context, id key.ID, ciphertext []byte, sum [32]byte) (bool, error)
}

// newOpening makes a pair and a ciphertext that the pair opens.
func newOpening(b *testing.B, calls openCalls, spec key.Spec) opening {
	b.Helper()
	o := opening{calls: calls, id: newID(b)}
	if err := calls.Generate(b.Context(), o.id, "sa-cmk-key", 1, spec, ""); err != nil {
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

// time measures how long Opens takes. The caller knows the answer.
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
