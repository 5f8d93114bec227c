package bench_test

import (
	"iter"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

const (
	rotations = 6
	generator = "C_GenerateKeyPair"
)

// moment is everything that is counted of keyd.
type moment struct {
	processor time.Duration // without the library's generations
	making    time.Duration // by the clock, of the generations
	pkcs11    measure.Kinds
}

func (w *world) moment() (m moment) {
	w.b.Helper()
	used, err := measure.Keyd(w.keyd.Process.Pid)
	if err != nil {
		w.b.Fatal(err)
	}
	making, clock, err := w.library.Spent("keyd", generator)
	if err != nil {
		w.b.Fatal(err)
	}
	m.processor, m.making = used.Processor()-making, clock
	if m.pkcs11, err = w.library.Calls("keyd"); err != nil {
		w.b.Fatal(err)
	}
	return m
}

// silent is a Viewer that shows nothing.
type silent struct{}

func (silent) Saw(status.Event) {}
func (silent) Away(bool)        {}

// rotate has the key rotated, and returns when an operator who watches is told so.
func (w *world) rotate() {
	w.b.Helper()
	w.rotateAll(w.keys[:1])
}

// rotateAll has keys rotated, and returns when an operator who watches is told so.
func (w *world) rotateAll(keys []string) {
	w.b.Helper()
	c := control.Dial(w.path("keyd.sock"))
	events, err := c.Subscribe(w.b.Context())
	if err != nil {
		w.b.Fatal(err)
	}
	accepted, err := c.Rotate(w.b.Context(), control.RotateOptions{Keys: keys, Reason: "benchmark"})
	if err != nil {
		w.b.Fatal(err)
	}
	if err := c.Follow(w.b.Context(), events, accepted, silent{}); err != nil {
		w.b.Fatal(err)
	}
}

// BenchmarkRotation compares a rotation, without the generation of its pair, with the calls that it needs: a complete
// listing, the wrap, the import, its proof, and the newest version.
func BenchmarkRotation(b *testing.B) {
	for bits, spec := range specs() {
		b.Run(spec, func(b *testing.B) {
			for b.Loop() {
				w := newWorld(b)
				w.start(spec, 1)
				w.settle()
				bare := w.run(job{Do: "rotate", Key: "bare-key", Bits: bits, Times: rotations})
				bareCalls, err := w.library.Calls("bare")
				if err != nil {
					b.Fatal(err)
				}
				https := w.calls()
				https["get"]-- // of the key exchange key, at its start
				w.compareRotations(spec, bare, bareCalls, https)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// specs yields those that are compared, by their bits.
func specs() iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		_ = yield(2048, "RSA-2048") && yield(4096, "RSA-4096")
	}
}

func (w *world) compareRotations(spec string, bare outcome, bareCalls, bareHTTPS measure.Kinds) {
	idle := w.idle()
	var processor, wall time.Duration
	calls, https := 0, 0
	for range rotations {
		before, began := w.moment(), time.Now()
		w.rotate()
		took := time.Since(began)
		made := w.untilQuiet()
		after, all := w.moment(), time.Since(began)
		processor += after.processor - before.processor - time.Duration(idle*float64(all))
		wall += took - (after.making - before.making)
		calls += work(after.pkcs11.Minus(before.pkcs11))
		https += made.Sum()
		w.refill(made)
	}
	const done = rotations + 1 // the bare program's first is not measured in time
	printed("a rotation without generation, "+spec, "bare calls", []compared{
		times("processor, both sides", processor/rotations, bare.Processor/rotations, "1.3 at most"),
		times("by the clock", wall/rotations, bare.Wall/rotations, "1.3 at most"),
		numbers("PKCS#11 calls", float64(calls)/rotations, float64(work(bareCalls))/done),
		numbers("HTTPS calls", float64(https)/rotations, float64(bareHTTPS.Sum())/done),
	})
}

// idle is the share of a processor that keyd uses with nothing to do.
func (w *world) idle() float64 {
	w.b.Helper()
	const watched = 10 * time.Second
	before := w.moment()
	time.Sleep(watched)
	return float64(w.moment().processor-before.processor) / float64(watched)
}

// work are the calls of the library that belong to neither a start nor a generation.
func work(calls measure.Kinds) int {
	n := calls.Sum()
	for _, f := range []string{"C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login", generator} {
		n -= calls[f]
	}
	return n
}
