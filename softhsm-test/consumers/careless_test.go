//go:build consumers

package consumers

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// The suite must be able to fail. Here an operator says `consumers: none` of a key, which is not true, and consents to
// what follows. keyd does as it is told, and the consumer that lags behind loses what it wrote.
func TestTheJudgeSeesWhatAWrongWordLoses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add(unloggedHost, "careless", "storage=follows", "storage=lags")
	w.write("keyd.yaml", w.configuration("")+fmt.Sprintf(keySection, "careless", "neu", "none", "disable_after: 1d"))
	w.start()
	w.awaitGeneration(1)
	w.await("the consumers take the key", func() bool { return len(w.untaken()) == 0 })
	w.mustLive()
	w.lag("lags", true)
	w.must("rotate", "--now", "careless", "--reason", "drill", "--timeout", "80s")
	w.stop()
	w.pass(25 * time.Hour)
	w.start()
	w.await("one follows", func() bool { return len(w.on(w.version(unloggedHost, "careless", 2))) == 1 })
	w.mustLive()
	w.must("retire", "careless", "--yes", "--reason", "there are no consumers")
	w.await("keyd disables the version", func() bool {
		return slices.Equal(w.enabled(unloggedHost, "careless"), []bool{false, true})
	})
	if lost := w.judge().lost; !maps.Equal(lost, map[string]int{"lags": 2}) {
		t.Errorf("the judge sees %v lost, and not what one consumer wrote twice", lost)
	}
	v1 := w.version(unloggedHost, "careless", 1)
	w.must("enable", "careless", v1, "--reason", "somebody uses it")
	if j := w.judge(); j.total() != 0 || j.writes != 4 {
		t.Errorf("once the version is enabled again: %s: %v", j, j.err())
	}
	w.stop()
}
