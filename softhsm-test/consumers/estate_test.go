//go:build consumers

package consumers

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// estate is the consumers of a world, and what they wrote.
type estate struct {
	t     *testing.T
	azure *arm.Service

	mu     sync.Mutex
	writes map[string]int // by name
}

// add makes consumers under a key, such as "storage=data". They take the key once it exists.
func (e *estate) add(host, key string, consumers ...string) {
	e.t.Helper()
	for _, c := range consumers {
		spec, err := arm.ParseSpec(c + ",key=https://" + host + "/keys/" + key)
		if err != nil {
			e.t.Fatal(err)
		}
		_ = e.azure.Make(e.t.Context(), spec) // the key is not there yet
		_, name, _ := strings.Cut(c, "=")
		e.writes[name] = 0
	}
}

// ours are the consumers that write, by name.
func (e *estate) ours(all []arm.Reading) map[string]arm.Reading {
	byName := map[string]arm.Reading{}
	for _, c := range all {
		if _, writes := e.writes[c.Name]; writes {
			byName[c.Name] = c
		}
	}
	return byName
}

// described is how the consumers are now. Nobody uses the key for it.
func (e *estate) described() map[string]arm.Reading { return e.ours(e.azure.Describe()) }

// untaken lists the consumers that do not use their key yet.
func (e *estate) untaken() (names []string) {
	for name, c := range e.described() {
		if c.InUse == "" {
			names = append(names, name+": "+c.Trouble)
		}
	}
	return names
}

// on lists the consumers that use a version, sorted by name.
func (e *estate) on(version string) (names []string) {
	for name, c := range e.described() {
		if strings.HasSuffix(c.InUse, "/"+version) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// put has one consumer write.
func (e *estate) put(name string) error {
	err := e.azure.Write(e.t.Context(), name, []byte(rand.Text()))
	if err == nil {
		e.writes[name]++
	}
	return err
}

// live has every consumer write once, and read everything that it ever wrote.
func (e *estate) live() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(e.writes)) {
		errs = append(errs, e.put(name))
	}
	errs = append(errs, e.judge().err())
	return errors.Join(errs...)
}

func (e *estate) mustLive() {
	e.t.Helper()
	if err := e.live(); err != nil {
		e.t.Fatal(err)
	}
}

// whileLiving runs f while the consumers write and read all the time, and requires that they had no failure.
func (e *estate) whileLiving(f func()) {
	e.t.Helper()
	var failure error
	stop := make(chan struct{})
	var living sync.WaitGroup
	living.Go(func() {
		for pause := time.NewTicker(time.Second); ; {
			failure = errors.Join(failure, e.live())
			select {
			case <-stop:
				pause.Stop()
				return
			case <-pause.C:
			}
		}
	})
	defer func() {
		close(stop)
		living.Wait()
		if failure != nil {
			e.t.Errorf("while keyd worked: %v", failure)
		}
	}()
	f()
}

// judgement says what became of everything that the consumers ever wrote.
type judgement struct {
	kinds  int            // of consumers
	writes int            // read back
	lost   map[string]int // writes that are not, by consumer; backups count as writes
	why    []error
}

// judge has every consumer read everything, its backups too. A write counts as read back only if the consumer reads it
// from the data that it works with.
func (e *estate) judge() judgement {
	j := judgement{lost: map[string]int{}}
	kinds := map[string]bool{}
	readings := e.ours(e.azure.ReadEverything(e.t.Context()).Consumers)
	for name, wrote := range e.writes {
		c := readings[name]
		kinds[c.Type] = true
		for _, l := range c.Lost {
			j.lost[name] += strings.Count(l.What, ",") + 1
			j.why = append(j.why, fmt.Errorf("%s cannot read %s, under %s: %s", name, l.What, l.Version, l.Why))
		}
		if missing := wrote - c.Read; missing > j.lost[name] {
			j.why = append(j.why, fmt.Errorf("%s wrote %d times, and has only %d", name, wrote, c.Read))
			j.lost[name] = missing
		}
		j.writes += max(0, wrote-j.lost[name])
	}
	j.kinds = len(kinds)
	return j
}

func (j judgement) total() (n int) {
	for _, lost := range j.lost {
		n += lost
	}
	return n
}

func (j judgement) err() error { return errors.Join(j.why...) }

func (j judgement) String() string {
	return fmt.Sprintf("consumers: %d kinds, %d writes read back, lost %d", j.kinds, j.writes, j.total())
}

// lag keeps a consumer from looking for new versions, or ends that.
func (e *estate) lag(name string, lags bool) {
	e.t.Helper()
	if err := e.azure.Pause(name, lags); err != nil {
		e.t.Fatal(err)
	}
}
