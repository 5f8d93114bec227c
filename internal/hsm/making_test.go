package hsm

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

func never() bool { return false }

// A call inside the library cannot be interrupted: what a person waits for must find a session that makes no pair.
func TestOneSessionNeverMakesAPair(t *testing.T) {
	for sessions, most := range map[int]int{1: 1, 2: 1, 4: 3} {
		synctest.Test(t, func(t *testing.T) {
			m := newMaking(sessions, never)
			for range most {
				if _, err := m.begin(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			_, err := m.begin(ctx)
			wantCode(t, err, Busy, key.Retry)
		})
	}
}

func TestAPauseWaitsForPairsAndKeepsOthersFromBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMaking(4, never)
		first, err := m.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var events []string
		var all sync.WaitGroup
		paused, again := make(chan struct{}), make(chan struct{})
		all.Go(func() {
			urgent, resume, err := m.pause(t.Context())
			if err != nil || priority.Of(urgent) != priority.Operator {
				t.Error(err, priority.Of(urgent))
			}
			events = append(events, "paused")
			close(paused)
			<-again
			events = append(events, "resumed")
			resume()
		})
		synctest.Wait()
		all.Go(func() {
			turn, err := m.begin(t.Context())
			if err != nil {
				t.Error(err)
			}
			events = append(events, "second pair")
			turn.end()
		})
		synctest.Wait()
		events = append(events, "first pair made")
		first.end()
		<-paused
		synctest.Wait()
		close(again)
		all.Wait()
		if got := strings.Join(events, ", "); got != "first pair made, paused, resumed, second pair" {
			t.Error(got)
		}
	})
}

// SoftHSM shows objects that are still being made. To read one may fail both calls, or spoil the new object.
func TestAnInventoryWaitsForPairsThatAreBeingMade(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	turn, err := e.making.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = e.Inventory(ctx)
	wantCode(t, err, Busy, key.Retry)
	turn.end()
	if _, err := e.Inventory(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAFreeSessionGoesToTheHighestClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tok := openScripted(t, &scripted{}, 1)
		if err := tok.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []string
		var all sync.WaitGroup
		for _, class := range []priority.Class{priority.Look, priority.Proof, priority.Operator} {
			all.Go(func() {
				ctx := priority.With(t.Context(), class)
				_, err := with(ctx, tok, time.Minute, true, func(session) (struct{}, error) {
					order = append(order, class.String())
					return struct{}{}, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		tok.giveBack(nil)
		all.Wait()
		if got := strings.Join(order, ", "); got != "operator, proof, look" {
			t.Error(got)
		}
	})
}

func TestTheClassOfACallReachesTheHSMSide(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			seen := &classSeen{}
			c, _ := connect(seen)
			if _, err := c.Find(priority.With(t.Context(), priority.Repair), newID(t)); err != nil {
				t.Fatal(err)
			}
			if seen.class != priority.Repair {
				t.Errorf("the HSM side sees the class %s", seen.class)
			}
		})
	}
}

type classSeen struct {
	fakeCalls
	class priority.Class
}

func (f *classSeen) Find(ctx context.Context, _ key.ID) ([]key.Object, error) {
	f.class = priority.Of(ctx)
	return nil, nil
}

// onePair makes a module fail when two pairs are made at once.
type onePair struct {
	mu             sync.Mutex
	running, clash int
	first, second  chan struct{} // closed when the first pair has begun, and when the second has failed
}

// make stands in for the module's own bookkeeping: the first pair goes on until the second has failed.
func (o *onePair) make(label string) error {
	o.mu.Lock()
	o.running++
	beside := o.running > 1
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running--
	}()
	switch {
	case beside:
		o.mu.Lock()
		o.clash++
		o.mu.Unlock()
		close(o.second)
		return pkcs11.Error(pkcs11.CKR_GENERAL_ERROR)
	case strings.HasSuffix(label, "/waits/1/pending"):
		close(o.first)
		<-o.second
	}
	return nil
}

func TestAModuleThatMakesOnePairAtATimeIsDetectedAndTheProcessGoesOn(t *testing.T) {
	one := &onePair{first: make(chan struct{}), second: make(chan struct{})}
	ways := &vendors{}
	e := onVendors(t, ways)
	ways.change(func() { ways.make = one.make })
	done := make(chan error)
	go func() { done <- e.Generate(t.Context(), newID(t), "waits", 1, key.RSA2048, "") }()
	<-one.first
	failed := newID(t)
	err := e.Generate(t.Context(), failed, "fails", 1, key.RSA2048, "")
	wantCode(t, err, Internal, key.Ambiguous)
	if err := <-done; err != nil {
		t.Errorf("the other pair: %v", err)
	}
	if e.tok.isDead() {
		t.Fatal("the process ends")
	}
	if found, err := e.Find(t.Context(), failed); err != nil || len(found) > 0 {
		t.Errorf("under the id of the pair that failed: %+v, %v", found, err)
	}
	tries := ways.thrownAway()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := e.Generate(t.Context(), newID(t), "later", 1, key.RSA2048, ""); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if one.clash != 1 {
		t.Errorf("the module was asked for two pairs at once %d times, not only the first time", one.clash)
	}
	if n := ways.thrownAway() - tries; n != 1 {
		t.Errorf("%d throw-away pairs, not one", n)
	}
	for when, e := range map[string]*engine{"in this process": e, "in the next": restarted(t, e)} {
		d, err := e.Describe(t.Context())
		if err != nil || !e.trial.oneAtATime() ||
			!strings.Contains(strings.Join(d.Warnings, "\n"), "one key pair at a time") {
			t.Errorf("%s: %q, %v", when, d.Warnings, err)
		}
	}
}

// If a pair made alone fails too, the reason is another one.
func TestAModuleThatFailsAloneTooIsNotHeldToOnePairAtATime(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	e.trial.suspect(pkcs11.Error(pkcs11.CKR_GENERAL_ERROR))
	e.trial.doubt()
	e.trial.settle(false)
	ways.change(func() { ways.make = answers(pkcs11.CKR_TEMPLATE_INCONSISTENT) })
	err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 1, key.RSA2048, "")
	wantCode(t, err, Unable, key.Refused)
	if e.trial.oneAtATime() {
		t.Error("keyd makes one pair at a time")
	}
}

func TestNothingIsMadeOnATokenThatLacksAKnownPair(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	known := mustGenerate(t, e)
	made := len(ways.made)
	err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, newID(t))
	wantCode(t, err, TokenChanged, key.Fatal)
	if len(ways.made) != made {
		t.Error("a pair was made")
	}
	if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, known); err != nil {
		t.Errorf("on the token that has the known pair: %v", err)
	}
}

func TestNothingIsMadeOnATokenThatLostTheAuditKey(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	if _, err := e.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustGenerate(t, e)
	if err := use(e.tok, true, func(s session) error {
		k, err := s.auditKey(e.own)
		s.drop(k.private)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	made := len(ways.made)
	err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, "")
	wantCode(t, err, TokenChanged, key.Fatal)
	if len(ways.made) != made {
		t.Error("a pair was made")
	}
}

// A search that counts for later ones does not hide that the pair went away meanwhile.
func TestNothingIsMadeOnATokenThatLostThePairSinceTheLastSearch(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	e.seen.share = 1_000_000
	known := mustGenerate(t, e)
	if err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, known); err != nil || !e.seen.counts() {
		t.Fatalf("%v; the search counts: %v", err, e.seen.counts())
	}
	if err := use(e.tok, true, func(s session) error {
		p, err := s.lookUp(known, e.own)
		s.drop(p.private)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	made := len(ways.made)
	err := e.Generate(t.Context(), newID(t), "sa-cmk-key", 2, key.RSA2048, known)
	wantCode(t, err, TokenChanged, key.Fatal)
	if len(ways.made) != made {
		t.Error("a pair was made")
	}
}

func TestAHandleThatShowsAnotherPairIsNotUsed(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	id, other := mustGenerate(t, e), mustGenerate(t, e)
	want, err := e.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	wrong, _ := e.recall(other)
	e.remember(id, wrong) // as if the module had given the handle to another pair
	if got, err := e.PublicKey(t.Context(), id); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
}

// With SoftHSM this failed before a pass over the token waited for pairs that are being made.
func TestPairsAreMadeWhileTheTokenIsListedAgainAndAgain(t *testing.T) {
	e := inProcess(t, func(m module) module { return m })
	kek, _ := newKEK(t, vaultURL)
	ctx, done := context.WithCancel(t.Context())
	var listing, making sync.WaitGroup
	for range 2 {
		listing.Go(func() {
			for ctx.Err() == nil {
				if _, err := e.Inventory(t.Context()); err != nil {
					t.Errorf("list: %v", err)
					return
				}
			}
		})
	}
	for i, name := range []string{"sa-cmk-key", "waits", "fails", "later", "slow"} { // a key's numbers only grow
		if i == e.cfg.Sessions {
			break
		}
		making.Go(func() {
			for n := range 4 {
				id := newID(t)
				err := e.Generate(t.Context(), id, name, n+1, key.RSA2048, "")
				if err == nil {
					_, err = e.WrapFor(t.Context(), id, kek)
				}
				if err != nil {
					t.Errorf("make and wrap: %v", err)
					return
				}
			}
		})
	}
	making.Wait()
	done()
	listing.Wait()
	if e.trial.oneAtATime() {
		t.Error("keyd makes one pair at a time")
	}
}

func TestAWrapDoesNotWaitForPairsThatAreBeingMade(t *testing.T) {
	ways := &vendors{}
	e := onVendors(t, ways)
	id := mustGenerate(t, e)
	release := make(chan struct{})
	ways.change(func() { ways.make = func(string) error { <-release; return errors.New("never made") } })
	var all sync.WaitGroup
	for range e.cfg.Sessions + 1 {
		all.Go(func() {
			if err := e.Generate(t.Context(), newID(t), "slow", 1, key.RSA2048, ""); err == nil {
				t.Error("a pair was made")
			}
		})
	}
	running := func() int {
		e.making.mu.Lock()
		defer e.making.mu.Unlock()
		return e.making.running
	}
	eventually(t, "all sessions but one make pairs", func() bool { return running() == e.cfg.Sessions-1 })
	kek, _ := newKEK(t, vaultURL)
	if _, err := e.WrapFor(t.Context(), id, kek); err != nil {
		t.Error(err)
	}
	close(release)
	all.Wait()
}
