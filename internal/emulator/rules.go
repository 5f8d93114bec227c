package emulator

import (
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// DropMode is whether and when a connection is closed without an answer.
type DropMode int

const (
	NoDrop DropMode = iota
	// DropBeforeCommit closes the connection before doing anything.
	DropBeforeCommit
	// DropAfterCommit carries out the request and then closes the connection.
	DropAfterCommit
)

// Rule injects a fault into calls. It applies to calls with an accepted token, so a
// challenge never uses up a Count. Every Delay, Hold, Skew and Stale of the matching
// rules takes effect; of their outcomes (Status, Drop, Truncate, Garbage, WrongJSON,
// Expired), only that of the rule added first.
type Rule struct {
	Host, Method string // "": any
	// Operation is one of import, get, versions, list, wrap, unwrap, encrypt,
	// decrypt, sign, verify, create, update, delete, recover, getdeleted,
	// listdeleted, purge, rotationpolicy, setrotationpolicy, rotate, attestation;
	// "": any of these. Only when named: "token", all calls to identity endpoints, "resource", all
	// calls to Resource Manager, "graph", those to Resource Graph, "logs", those to Log Analytics, and "connect", the
	// CONNECT to the proxy.
	Operation string
	Key       string // key name; "": any
	Count     int    // how many times; 0: until cleared
	// Probability that a matching call is hit; 0 means always.
	Probability float64
	// Status (400 to 599) is answered without doing anything. Code has a default for
	// each status; Inner and Message may stay empty. A vault's 401 carries a fresh
	// challenge.
	Status               int
	Code, Inner, Message string
	// RetryAfter is sent in whole seconds. A 429 has 1 s unless NoRetryAfter.
	RetryAfter   time.Duration
	NoRetryAfter bool
	Drop         DropMode
	Delay        time.Duration // real time, before anything is done
	Hold         bool          // until the rule is cleared, before anything is done
	Truncate     bool          // done, but the body breaks off half way
	Garbage      bool          // done, but 200 with a body that is not JSON
	WrongJSON    bool          // done, but 200 with JSON of another shape
	// Expired has identity endpoints hand out a token whose life is over, and
	// say so in its expires_on. Only with Operation "token".
	Expired bool
	// Stale answers reads (get, lists, operations) from the vault's state this long
	// ago, at most an hour.
	Stale       time.Duration
	Until       time.Time     // by Options.Now; zero: no end
	SkewDate    time.Duration // added to the Date header
	SkewCreated time.Duration // added to the created and updated times of answers
}

func (r Rule) hasOutcome() bool {
	return r.Status > 0 || r.Drop != NoDrop || r.Truncate || r.Garbage || r.WrongJSON || r.Expired
}

// effects reports whether the rule has any effect.
func (r Rule) effects() bool {
	return r.hasOutcome() || r.Delay != 0 || r.Hold || r.SkewDate != 0 || r.SkewCreated != 0 || r.Stale != 0
}

// ActiveRule is a Rule in force.
type ActiveRule struct {
	book *ruleBook
	rule Rule
	hits int
	over chan struct{} // closed when the rule is cleared
}

// Hits returns how many calls the rule has affected.
func (a *ActiveRule) Hits() int {
	a.book.mu.Lock()
	defer a.book.mu.Unlock()
	return a.hits
}

// Clear ends the rule.
func (a *ActiveRule) Clear() {
	a.book.change(func(all []*ActiveRule) []*ActiveRule {
		return slices.DeleteFunc(all, func(o *ActiveRule) bool { return o == a })
	})
}

// Fail adds a rule.
func (e *Emulator) Fail(rule Rule) *ActiveRule {
	return e.rules.add(rule)
}

// ClearFailures ends all rules.
func (e *Emulator) ClearFailures() {
	e.rules.change(func([]*ActiveRule) []*ActiveRule { return nil })
}

// ruleBook is read by every call, and locked only by calls that a rule may affect.
type ruleBook struct {
	now   func() time.Time
	rules atomic.Pointer[[]*ActiveRule] // never changed, only replaced

	mu  sync.Mutex // of rng, of all hits, and to replace the rules
	rng *rand.Rand
}

func newRuleBook(seed uint64, now func() time.Time) *ruleBook {
	b := &ruleBook{now: now, rng: rand.New(rand.NewPCG(seed, seed))}
	b.rules.Store(&[]*ActiveRule{})
	return b
}

func (b *ruleBook) add(rule Rule) *ActiveRule {
	a := &ActiveRule{book: b, rule: rule, over: make(chan struct{})}
	b.change(func(all []*ActiveRule) []*ActiveRule { return append(all, a) })
	return a
}

// change applies f to a copy of the rules, replaces them, and ends the removed ones.
func (b *ruleBook) change(f func([]*ActiveRule) []*ActiveRule) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := *b.rules.Load()
	next := f(slices.Clone(all))
	b.rules.Store(&next)
	for _, a := range all {
		if !slices.Contains(next, a) {
			close(a.over)
		}
	}
}

// about returns the rules for such a call.
func (b *ruleBook) about(c call) (some []*ActiveRule) {
	for _, a := range *b.rules.Load() {
		if a.rule.matches(c) {
			some = append(some, a)
		}
	}
	return some
}

// call is what rules are matched against.
type call struct {
	host, method, operation, key string
	// Not matched: the challenge for a 401, the caller, and what the rules did.
	challenge string
	address   netip.Addr
	refused   map[string]string // headers of a refusal
	delay     time.Duration     // how long a rule delayed it
	caller    string            // client id
	done      int               // status of what was done
}

// fault is the combined effect of the rules on one call.
type fault struct {
	rule    *Rule // the outcome; nil: the call proceeds
	delay   time.Duration
	holds   []<-chan struct{}
	skew    time.Duration
	created time.Duration // skew of created and updated
	stale   time.Duration
}

func (f fault) drops() bool { return f.rule != nil && f.rule.Drop == DropBeforeCommit }

func (b *ruleBook) match(c call) fault {
	some := b.about(c)
	if len(some) == 0 {
		return fault{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var f fault
	now := b.now()
	for _, a := range some {
		outcome := a.rule.hasOutcome()
		if a.spent(now) || (outcome && f.rule != nil) {
			continue
		}
		if a.rule.Probability > 0 && b.rng.Float64() >= a.rule.Probability {
			continue
		}
		a.hits++
		f.delay += a.rule.Delay
		if a.rule.Hold {
			f.holds = append(f.holds, a.over)
		}
		f.skew += a.rule.SkewDate
		f.created += a.rule.SkewCreated
		f.stale += a.rule.Stale
		if outcome {
			f.rule = &a.rule
		}
	}
	return f
}

func (a *ActiveRule) spent(now time.Time) bool {
	ended := !a.rule.Until.IsZero() && !now.Before(a.rule.Until)
	return ended || (a.rule.Count > 0 && a.hits >= a.rule.Count)
}

func (r Rule) matches(c call) bool {
	is := func(want, have string) bool { return want == "" || strings.EqualFold(want, have) }
	if r.Operation == "" && slices.Contains([]string{opConnect, opToken, opResource, opGraph, opLogs}, c.operation) {
		return false
	}
	return is(r.Host, c.host) && is(r.Method, c.method) && is(r.Operation, c.operation) && is(r.Key, c.key)
}

// refusal returns the answer of a rule with a Status.
func (r Rule) refusal() answer {
	err := &apiError{status: r.Status, code: r.Code, inner: r.Inner, message: r.Message}
	if err.code == "" {
		err.code = codeFor(r.Status)
	}
	if err.message == "" {
		err.message = "a rule of the emulator refuses this call"
	}
	a := answer{status: r.Status, failure: err}
	after := r.RetryAfter
	if after == 0 && r.Status == http.StatusTooManyRequests {
		after = time.Second
	}
	if !r.NoRetryAfter {
		a.retryAfter = after
	}
	return a
}
