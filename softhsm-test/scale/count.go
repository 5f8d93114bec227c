package main

import (
	"context"
	"errors"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/softhsm-test/measure"
)

// counts are what was counted up to a moment, or between two.
type counts struct {
	vault      measure.Kinds // calls to the vaults, without challenges
	challenges int           // requests that the vaults answered with 401
	throttled  int           // those that they answered with 429, which are in vault, too
	pkcs11     measure.Kinds // calls of the library
	generating time.Duration // processor time in its generations of pairs

	// These are keyd's own, since its start.
	hsmSide      measure.Kinds // calls of the network side to the HSM side
	writes       int           // transactions of the store
	network, hsm time.Duration // processor time of the two sides
}

// minus is what came after before.
func (c counts) minus(before counts) counts {
	return counts{
		vault: c.vault.Minus(before.vault), challenges: c.challenges - before.challenges,
		throttled: c.throttled - before.throttled, pkcs11: c.pkcs11.Minus(before.pkcs11),
		generating: c.generating - before.generating, hsmSide: c.hsmSide.Minus(before.hsmSide),
		writes: c.writes - before.writes, network: c.network - before.network, hsm: c.hsm - before.hsm,
	}
}

// ofTheKeys are the calls to the vaults without those of routine proofs, which go by the time and not by what is done.
// An import has one proof of its own, which is a wrap and an unwrap.
func (c counts) ofTheKeys() int {
	n := c.vault.Sum()
	for _, op := range []string{"wrap", "unwrap"} {
		n -= max(0, c.vault[op]-c.vault["import"])
	}
	return n
}

// ledger counts all requests that reach the vaults. It must be read often: the emulator keeps the last ones only.
type ledger struct {
	w        *world
	next     uint64
	counted  counts
	last     time.Time             // when a call was last seen, by the machine's clock
	calls    []emulator.RequestLog // to the vaults since the last start of keyd
	imported map[string]int        // imports of each key
	proven   map[string]int        // generations of each key that were proven after their import
	waits    map[string]bool
}

func newLedger(w *world) *ledger {
	return &ledger{
		w:        w,
		counted:  counts{vault: measure.Kinds{}},
		last:     time.Now(),
		imported: map[string]int{},
		proven:   map[string]int{},
		waits:    map[string]bool{},
	}
}

// read counts what came since the last time.
func (l *ledger) read() error {
	list, next := l.w.azure.RequestsSince(l.next)
	if uint64(len(list)) != next-l.next {
		return errors.New("more calls came than the emulator keeps: the machine is too busy to count them")
	}
	l.next = next
	hosts := map[string]bool{}
	for i := range l.w.vaults {
		hosts[vaultHost(i)] = true
	}
	for _, r := range list {
		switch {
		case !hosts[r.Host] || r.Operation == "connect": // tokens; and tunnels, which are no calls
			continue
		case r.Status == 401:
			l.counted.challenges++
			continue
		case r.Status == 429:
			l.counted.throttled++
		}
		l.last = time.Now()
		l.calls = append(l.calls, r)
		l.counted.vault[r.Operation]++
		if r.Status != 200 {
			continue
		}
		switch r.Operation {
		case "import":
			l.imported[r.Key]++
			l.waits[r.Key] = true
		case "unwrap":
			if l.waits[r.Key] {
				delete(l.waits, r.Key)
				l.proven[r.Key]++
			}
		}
	}
	return nil
}

// until counts the calls to the vaults since the last start of keyd up to a moment.
func (l *ledger) until(t time.Time) measure.Kinds {
	kinds := measure.Kinds{}
	for _, r := range l.calls {
		if !r.Time.After(t) {
			kinds[r.Operation]++
		}
	}
	return kinds
}

// provenKeys counts the keys of which n generations were proven.
func (l *ledger) provenKeys(n int) (keys int) {
	for _, k := range l.w.names {
		if l.proven[k] >= n {
			keys++
		}
	}
	return keys
}

// outside are all counts so far, but for keyd's own.
func (l *ledger) outside() (c counts, err error) {
	if err := l.read(); err != nil {
		return c, err
	}
	c = l.counted.minus(counts{}) // a copy
	if c.pkcs11, err = l.w.library.Calls("keyd"); err != nil {
		return c, err
	}
	c.generating, _, err = l.w.library.Spent("keyd", "C_GenerateKeyPair")
	return c, err
}

// all are all counts so far, keyd's own among them.
func (l *ledger) all(ctx context.Context) (counts, error) {
	c, err := l.outside()
	if err != nil {
		return c, err
	}
	sc, err := l.w.scrape(ctx)
	if err != nil {
		return c, err
	}
	c.writes = sc.total("keyd_store_writes_total", "outcome", "done")
	c.hsmSide = sc.by("keyd_hsm_call_duration_seconds", "call")
	used, err := measure.Keyd(l.w.keyd.pid())
	c.network, c.hsm = used.Network.Processor, used.HSM.Processor
	return c, err
}
