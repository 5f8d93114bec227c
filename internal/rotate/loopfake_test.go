package rotate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/plan"
	"github.com/keyd-project/keyd/internal/priority"
	"github.com/keyd-project/keyd/internal/record"
)

const (
	testVault = "https://weu.vault.azure.net"
	testLook  = 15 * time.Minute
)

// fakeSteps stands in for a Rotator and its Observer: it remembers who was stepped, and answers as a test says.
type fakeSteps struct {
	Observer // nil: a call that the fake lacks fails the test
	key      func(ctx context.Context, name string) (plan.Step, error)
	vault    func() (plan.Step, error)
	// found is what a look finds; each step begins with one. Nil: all is well.
	found func() *record.Observation
	// records is what the records say at the start.
	records map[string]work

	mu      sync.Mutex
	calls   []call
	running map[string]int
	most    map[string]int // at once
	looks   map[string]*record.Observation
	vaults  map[string]*record.VaultLook
	asked   int // AskAgain
}

type work struct {
	class priority.Class
	begun bool
}

type call struct {
	id    string
	class priority.Class
}

func (f *fakeSteps) begin(id string, c priority.Class) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call{id, c})
	f.running[id]++
	f.most[id] = max(f.most[id], f.running[id])
}

func (f *fakeSteps) end(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running[id]--
}

func (f *fakeSteps) StepKey(ctx context.Context, p key.Policy) (plan.Step, error) {
	f.begin(p.Key, priority.Of(ctx))
	defer f.end(p.Key)
	o := f.look()
	step, err := plan.Step{Kind: plan.Idle}, error(nil)
	if f.key != nil {
		step, err = f.key(ctx, p.Key)
	}
	f.mu.Lock()
	f.looks[p.Key] = o
	f.mu.Unlock()
	return step, err
}

func (f *fakeSteps) look() *record.Observation {
	if f.found != nil {
		return f.found()
	}
	return &record.Observation{At: time.Now(), Vaults: map[string]record.VaultSeen{testVault: {}}}
}

func (f *fakeSteps) StepVault(ctx context.Context, p key.VaultPolicy) (plan.Step, error) {
	f.begin(p.URL, priority.Of(ctx))
	defer f.end(p.URL)
	if f.vault == nil {
		return plan.Step{Kind: plan.Idle}, nil
	}
	return f.vault()
}

func (f *fakeSteps) unfinished(_ context.Context, p key.Policy) (priority.Class, bool) {
	if w, ok := f.records[p.Key]; ok {
		return w.class, w.begun
	}
	return priority.Look, false
}

func (f *fakeSteps) Last(name string) *record.Observation {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks[name]
}

func (f *fakeSteps) LastVault(url string) *record.VaultLook {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.vaults[url]
}

func (f *fakeSteps) Drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.looks, name)
}

func (f *fakeSteps) Doubt(name string) { f.Drop(name) }

func (f *fakeSteps) Forget(name string) { f.Drop(name) }

func (f *fakeSteps) DropVault(url string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.vaults, url)
}

func (f *fakeSteps) Expect([]key.Policy) {}

func (f *fakeSteps) AskAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
}

// seenVault has the newest look at the vault end with this error.
func (f *fakeSteps) seenVault(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vaults[testVault] = &record.VaultLook{At: time.Now(), Err: err}
}

// count is how often a key or a vault was stepped so far.
func (f *fakeSteps) count(id string) int { return f.counts()[id] }

func (f *fakeSteps) counts() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := map[string]int{}
	for _, c := range f.calls {
		n[c.id]++
	}
	return n
}

// all is every call so far, in order.
func (f *fakeSteps) all() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]call(nil), f.calls...)
}

// forgetCalls begins to count anew.
func (f *fakeSteps) forgetCalls() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = nil
}

// fakeLoop is a loop around the fake.
func fakeLoop(f *fakeSteps, parallel int) *Loop {
	f.running, f.most = map[string]int{}, map[string]int{}
	f.looks, f.vaults = map[string]*record.Observation{}, map[string]*record.VaultLook{}
	l := NewLoop(New(Config{Observer: f, Clock: time.Now, Look: testLook}), parallel)
	l.steps = f
	return l
}

// run runs the loop until the test ends.
func run(t *testing.T, l *Loop) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
}

// keys are n policies in one vault; their names are in order.
func keys(n int) (policies []key.Policy) {
	for i := range n {
		policies = append(policies, key.Policy{Key: fmt.Sprintf("key-%04d", i),
			Vaults: []key.Vault{{Name: "weu", URL: testVault}}})
	}
	return policies
}

var weu = []key.VaultPolicy{{Vault: key.Vault{Name: "weu", URL: testVault}}}

// scripts has each key take the steps of a script, one after the other, and then be idle.
func scripts(script ...plan.Step) func(context.Context, string) (plan.Step, error) {
	var mu sync.Mutex
	at := map[string]int{}
	return func(_ context.Context, name string) (plan.Step, error) {
		mu.Lock()
		defer mu.Unlock()
		n := at[name]
		at[name]++
		if n >= len(script) {
			return plan.Step{Kind: plan.Idle}, nil
		}
		return script[n], nil
	}
}

type retryError struct{}

func (retryError) Error() string    { return "no answer" }
func (retryError) Class() key.Class { return key.Retry }

// found is what looks find: each field is an error, or nil for what is well.
type found struct {
	mu              sync.Mutex
	hsm, vault, kek error
}

func (w *found) set(change func(*found)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *found) look() *record.Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &record.Observation{At: time.Now(), HSM: record.HSMSeen{Err: w.hsm},
		Vaults: map[string]record.VaultSeen{testVault: {Err: w.vault, KEK: record.KEKSeen{Err: w.kek}}}}
}

// waits is a key that waits while anything is missing, and has nothing to do otherwise.
func (w *found) waits(context.Context, string) (plan.Step, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Join(w.hsm, w.vault, w.kek) != nil {
		return plan.Step{Kind: plan.Wait, Until: time.Now().Add(30 * time.Second)}, nil
	}
	return plan.Step{Kind: plan.Idle}, nil
}

// wantCounts requires how often each was stepped.
func wantCounts(t *testing.T, f *fakeSteps, want map[string]int) {
	t.Helper()
	synctest.Wait()
	if got := f.counts(); !maps.Equal(got, want) {
		t.Errorf("stepped %v, want %v", got, want)
	}
}
