package simulate

import (
	"reflect"
	"testing"
)

func TestASeedOfSeveralHostsAlwaysGivesTheSameTrace(t *testing.T) {
	const seed = 1
	primes, opts := NewPrimes(), Options{Trace: lines, SeveralHosts: true}
	a, b := primes.Run(seed, opts), primes.Run(seed, opts)
	if a.Hosts < 2 || !reflect.DeepEqual(a, b) {
		t.Errorf("seed %d: two runs with %d hosts differ:\n%+v\n%+v", seed, a.Hosts, a, b)
	}
}
