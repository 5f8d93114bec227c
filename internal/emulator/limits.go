package emulator

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// limiter holds the vaults to their published limits: what is spent in a window must not be more than the window
// allows. The cost of a call is its share of that. Refused calls cost nothing.
type limiter struct {
	mu      sync.Mutex
	windows map[string]*window // by the vault's host or its subscription, and by budget
}

// subscriptionVaults is how many vaults' worth of calls a subscription allows all its vaults together.
const subscriptionVaults = 5

type window struct {
	start time.Time
	spent float64
}

// budget is a limit as Microsoft publishes it.
type budget struct {
	name   string
	calls  int // allowed in period
	period time.Duration
}

func newLimiter() *limiter { return &limiter{windows: map[string]*window{}} }

// spend says how long to wait when the budget of the vault, or of its subscription, is used up, else 0.
func (l *limiter) spend(c VaultConfig, b budget, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	windows := map[*window]float64{l.window("vault "+c.Host, b, now): 1} // with how many vaults' worth each allows
	if c.Profile != ManagedHSM {
		windows[l.window("subscription "+c.Subscription, b, now)] = subscriptionVaults
	}
	const slack = 1e-9 // sums of thousandths are not exact
	cost := 1 / float64(b.calls)
	for w, allowed := range windows {
		if w.spent+cost > allowed+slack {
			wait = max(wait, w.start.Add(b.period).Sub(now))
		}
	}
	if wait > 0 {
		return wait
	}
	for w := range windows {
		w.spent += cost
	}
	return 0
}

// window is the one that is open. It is called with the lock held.
func (l *limiter) window(of string, b budget, now time.Time) *window {
	name := of + ": " + b.name
	w := l.windows[name]
	if w == nil || now.Sub(w.start) >= b.period {
		w = &window{start: now}
		l.windows[name] = w
	}
	return w
}

// throttle returns why a call exceeds the limits, or nil.
func (v *Vault) throttle(t target, body []byte) *answer {
	if v.limiter == nil || t.operation == "" {
		return nil
	}
	wait := v.limiter.spend(v.config, v.budget(t.operation, v.kindOf(t, body)), v.opts.Now())
	if wait <= 0 {
		return nil
	}
	return &answer{status: http.StatusTooManyRequests, retryAfter: wait, failure: &apiError{
		code: "Throttled",
		message: "Request was not processed because too many requests were received. Reason: " +
			"VaultRequestTypeLimitReached",
	}}
}

// keyKind is what the limits depend on.
type keyKind struct {
	family string
	hsm    bool
	bits   int // of RSA keys
}

func (v *Vault) budget(operation string, k keyKind) budget {
	creates := operation == opCreate || operation == opRotate
	if v.config.Profile == ManagedHSM {
		return hsmBudget(operation, creates, k)
	}
	if creates {
		if k.hsm {
			return budget{"create HSM keys", 10, 10 * time.Second}
		}
		return budget{"create software keys", 20, 10 * time.Second}
	}
	if operation == opImport {
		return budget{"import keys", 300, 10 * time.Second} // by later digests of the limits
	}
	// "The throttling thresholds are weighted, and enforcement is on their sum":
	// one window for all, in which a call on a slower key costs more.
	calls := map[int]int{3072: 500, 4096: 250}[k.bits]
	if calls == 0 {
		calls = 2000
	}
	if !k.hsm {
		calls *= 2
	}
	return budget{"all other transactions", calls, 10 * time.Second}
}

// hsmBudget has the Managed HSM's creations (1 a second), reads (1100 a second) and, for RSA-4096, the private
// operations (160 a second) and the public ones (1900). For other keys the numbers are capacities and not limits, and
// nothing is refused.
func hsmBudget(operation string, creates bool, k keyKind) budget {
	private := operation == opUnwrap || operation == opDecrypt || operation == opSign
	public := operation == opWrap || operation == opEncrypt || operation == opVerify
	switch {
	case creates:
		return budget{"create keys", 1, time.Second}
	case operation == opGet || operation == opVersions || operation == opList:
		return budget{"reads", 1100, time.Second}
	case private && k.bits == 4096:
		return budget{"private operations of RSA-4096", 160, time.Second}
	case public && k.bits == 4096:
		return budget{"public operations of RSA-4096", 1900, time.Second}
	}
	return budget{"everything else", 1 << 30, time.Second}
}

// kindOf is the kind of the key in a call: the existing one, or the requested one.
func (v *Vault) kindOf(t target, body []byte) keyKind {
	if t.operation == opCreate || t.operation == opImport {
		return requestedKind(body)
	}
	_, ver, err := v.current().version(t.key, t.version)
	if err != nil {
		return keyKind{}
	}
	var k jsonWebKey
	ver.shown.show(&k)
	return keyKind{family(ver.kty), isHSM(ver.kty), 8 * len(k.N)}
}

func requestedKind(body []byte) keyKind {
	var q struct {
		Kty     string     `json:"kty"`
		KeySize int        `json:"key_size"`
		HSM     bool       `json:"Hsm"`
		Key     jsonWebKey `json:"key"`
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return keyKind{}
	}
	if q.Kty == "" {
		q.Kty = q.Key.Kty
	}
	return keyKind{family(q.Kty), q.HSM || isHSM(q.Kty), q.KeySize}
}
