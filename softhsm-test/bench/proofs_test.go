package bench_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/health"
	"github.com/keyd-project/keyd/internal/hsm"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/proof"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/store/bolt"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

const (
	proven    = 1000 // versions
	ofPairs   = 4
	perClient = 25 // versions that one client proves: few enough that its limit of calls delays none
)

// BenchmarkProofs compares a pass of keyd's routine proofs over a thousand versions with bare ones, and with nothing
// but the HSM's private operations.
func BenchmarkProofs(b *testing.B) {
	for _, spec := range specs() {
		b.Run(spec, func(b *testing.B) {
			for b.Loop() {
				newWorld(b).compareProofs(spec)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func (w *world) compareProofs(spec string) {
	w.start(spec, ofPairs)
	w.stop()
	j := job{Times: proven, Keyd: program("keyd"), Config: w.path("keyd.yaml")}
	j.Pairs, j.Records = w.records()
	j.Do = "copy"
	j.Copies = w.run(j).Copies
	outcomes := map[string]outcome{}
	for _, j.Do = range []string{"open", "prove", "health"} {
		outcomes[j.Do] = w.run(j)
	}
	keyd := outcomes["health"]
	for _, than := range []struct{ do, name string }{{"prove", "bare proofs"}, {"open", "private op."}} {
		bare := outcomes[than.do]
		printed(fmt.Sprintf("proofs of %d versions, %s", proven, spec), than.name, []compared{
			times("processor, both sides", keyd.Processor, bare.Processor, "1.3 at most"),
			times("by the clock", keyd.Wall, bare.Wall, "1.3 at most"),
		})
	}
}

// records are the CKA_IDs and the records of the keys.
func (w *world) records() (pairs, records []string) {
	w.b.Helper()
	store, err := bolt.Open(w.path("state"), time.Now, nil)
	if err != nil {
		w.b.Fatal(err)
	}
	defer store.Close()
	for _, name := range w.keys {
		r, err := store.Load(w.b.Context(), name)
		if err != nil {
			w.b.Fatal(err)
		}
		text, err := json.Marshal(r)
		if err != nil {
			w.b.Fatal(err)
		}
		newest := r.NewestIn("https://" + vaultHost)
		pairs, records = append(pairs, string(newest.Generation.ID)), append(records, string(text))
	}
	return pairs, records
}

// keydProofs has keyd's own health prove the copies, with a real HSM side. It is the network side of this pass.
func keydProofs(j job) (o outcome, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	sup := hsm.NewSupervisor(hsm.ChildConfig{Argv: []string{j.Keyd, "hsm", "--config", j.Config},
		Log: slog.New(slog.DiscardHandler), Stderr: io.Discard})
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = sup.Run(ctx) })
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if _, err := sup.Client().Describe(ctx); err == nil {
			break
		} else if time.Since(began) > patience {
			return o, err
		}
	}
	keys, records, err := j.keys()
	if err != nil {
		return o, err
	}
	clients, err := j.clients()
	if err != nil {
		return o, err
	}
	p := &pass{left: len(keys), done: make(chan struct{})}
	h := health.New(health.Config{
		HSM: sup.Client(), Vaults: func(url string) proof.Vault { return clients[url] },
		Keys:   func(context.Context) ([]health.Key, error) { return keys, nil },
		Record: func(_ context.Context, name string) (record.Record, error) { return records[name], nil },
		Clock:  p.now, Newest: time.Hour, Parallel: 2, Ended: p.ended,
	})
	running.Go(func() { h.Run(ctx) })
	time.Sleep(2 * time.Second) // it has seen them all, and some are due
	return p.measure(h, sup.PID())
}

// keys are the copies as keyd's own keys, with their records by name. A few versions at a time are in a vault, by a
// name that only this pass knows.
func (j job) keys() (keys []health.Key, records map[string]record.Record, err error) {
	records = map[string]record.Record{}
	for i, c := range j.Copies {
		var original record.Record
		if err := json.Unmarshal([]byte(j.Records[c.Pair]), &original); err != nil {
			return nil, nil, err
		}
		text := strings.ReplaceAll(j.Records[c.Pair], j.Vault, j.part(i))
		at := original.NewestIn(j.Vault)
		text = strings.ReplaceAll(text, at.Version, c.Version[strings.LastIndex(c.Version, "/")+1:])
		var copied record.Record
		if err := json.Unmarshal([]byte(text), &copied); err != nil {
			return nil, nil, err
		}
		records[c.Key] = copied
		keys = append(keys, health.Key{Name: c.Key, Operations: at.Operations})
	}
	return keys, records, nil
}

// part is the vault's URL with a path, which tells this pass's clients apart.
func (j job) part(i int) string { return fmt.Sprintf("%s/%d", j.Vault, i/perClient) }

func (j job) clients() (map[string]*vault.Client, error) {
	transport := vault.HTTPClient(http.DefaultTransport.(*http.Transport).Clone())
	cred, err := vault.NewCredential(vault.CredentialConfig{Kind: vault.ManagedIdentity}, transport)
	if err != nil {
		return nil, err
	}
	clients := map[string]*vault.Client{}
	for i := 0; i < len(j.Copies); i += perClient {
		clients[j.part(i)], err = vault.New(vault.Config{Vault: key.Vault{Name: "weu", URL: j.Vault}, KEKName: j.KEK},
			cred, transport, nil, nil)
		if err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// pass is one proof of every version.
type pass struct {
	mu     sync.Mutex
	ahead  time.Duration
	left   int
	failed error
	done   chan struct{} // closed when none is left
}

// now is a clock that jumps, so that all are due at once.
func (p *pass) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.ahead)
}

func (p *pass) ended(s health.Subject, _ time.Time, r proof.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Outcome != key.Passed {
		p.failed = fmt.Errorf("the proof of %s: %s: %w", s.Key, r.Outcome, r.Err)
	}
	if p.left--; p.left == 0 {
		close(p.done)
	}
}

func (p *pass) measure(h *health.Health, hsmSide int) (o outcome, err error) {
	hsmBefore, err := measure.ProcessOf(hsmSide)
	if err != nil {
		return o, err
	}
	p.mu.Lock()
	p.ahead = time.Minute // within which health spreads the first proofs
	left := p.left
	p.mu.Unlock()
	before, began := processorTime(), time.Now()
	h.Refresh()
	select {
	case <-p.done:
	case <-time.After(patience):
		return o, fmt.Errorf("%d proofs did not end in time", left)
	}
	o.Wall, o.Processor = time.Since(began), processorTime()-before
	hsmAfter, err := measure.ProcessOf(hsmSide)
	o.Processor += hsmAfter.Processor - hsmBefore.Processor
	// A few were proven before the jump: as if those had cost the same.
	all := float64(proven) / float64(left)
	o.Wall, o.Processor = time.Duration(float64(o.Wall)*all), time.Duration(float64(o.Processor)*all)
	return o, errors.Join(err, p.failed)
}
