package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"regexp"
	"time"
)

// byKind are calls by their kind.
type byKind map[string]int

func (b byKind) minus(before byKind) byKind {
	d := byKind{}
	maps.Copy(d, b)
	for kind, n := range before {
		d[kind] -= n
	}
	return d
}

func (b byKind) sum() (n int) {
	for _, v := range b {
		n += v
	}
	return n
}

// counts are what was counted up to a moment, or between two.
type counts struct {
	vault      byKind // calls to the vaults, without challenges
	challenges int    // requests that the vaults answered with 401
	throttled  int    // those that they answered with 429, which are in vault, too
	pkcs11     byKind // calls of the library

	// These are keyd's own, since its start.
	hsmSide      byKind        // calls of the network side to the HSM side
	writes       int           // transactions of the store
	network, hsm time.Duration // processor time of the two sides
}

// minus is what came after before.
func (c counts) minus(before counts) counts {
	return counts{
		vault: c.vault.minus(before.vault), challenges: c.challenges - before.challenges,
		throttled: c.throttled - before.throttled, pkcs11: c.pkcs11.minus(before.pkcs11),
		hsmSide: c.hsmSide.minus(before.hsmSide), writes: c.writes - before.writes,
		network: c.network - before.network, hsm: c.hsm - before.hsm,
	}
}

// ofTheKeys are the calls to the vaults without those of routine proofs, which go by the time and not by what is done.
// An import has one proof of its own, which is a wrap and an unwrap.
func (c counts) ofTheKeys() int {
	n := c.vault.sum()
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
	last     time.Time      // when a call was last seen, by the machine's clock
	imported map[string]int // imports of each key
	proven   map[string]int // generations of each key that were proven after their import
	waits    map[string]bool
}

func newLedger(w *world) *ledger {
	return &ledger{
		w:        w,
		counted:  counts{vault: byKind{}},
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
	c.pkcs11, err = l.w.pkcs11Calls()
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
	used, err := l.w.keyd.usage()
	c.network, c.hsm = used.network.cpu, used.hsm.cpu
	return c, err
}

var listedFunction = regexp.MustCompile(`\bX\((\w+)\)`)

// pkcs11Calls reads the counters of faultmodule.c, which are in the order of its list of functions.
func (w *world) pkcs11Calls() (byKind, error) {
	const width = 8 // bytes of a counter
	data, err := os.ReadFile(w.path("pkcs11-calls"))
	if errors.Is(err, fs.ErrNotExist) {
		return byKind{}, nil // no library was loaded yet
	}
	source, sourceErr := os.ReadFile(faultHome + "/faultmodule.c")
	if err := errors.Join(err, sourceErr); err != nil {
		return nil, err
	}
	functions := listedFunction.FindAllSubmatch(source, -1)
	if len(functions) == 0 || len(data) != 2*len(functions)*width { // the second half counts the faults
		return nil, fmt.Errorf("%d bytes of counters for %d functions of PKCS#11", len(data), len(functions))
	}
	calls := byKind{}
	for i, f := range functions {
		if n := binary.NativeEndian.Uint64(data[i*width:]); n > 0 {
			calls["C_"+string(f[1])] = int(n)
		}
	}
	return calls, nil
}
