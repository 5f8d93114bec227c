package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// liveOn makes a live view on a screen whose size and time the test sets.
type liveOn struct {
	*live
	screen *screen
	clock  time.Time
}

func newLiveOn(cols, rows int, keys ...string) *liveOn {
	l := &liveOn{screen: newScreen(cols, rows), clock: at(0)}
	l.live = &live{out: l.screen, begun: at(0), now: func() time.Time { return l.clock }}
	l.live.screen = func() (style, int) { return style{width: l.screen.cols}, l.screen.rows }
	var accepted []control.Accepted
	for _, k := range keys {
		accepted = append(accepted, control.Accepted{Key: k})
	}
	l.follow(accepted)
	return l
}

func (l *liveOn) after(d time.Duration) { l.clock = at(d) }

func wantScreen(t *testing.T, s *screen, want ...string) {
	t.Helper()
	if got := s.String(); got != strings.Join(want, "\n") {
		t.Errorf("the screen shows\n%s\n\nbut should show\n%s", got, strings.Join(want, "\n"))
	}
}

func TestLiveViewHasOneLinePerKeyInColumns(t *testing.T) {
	l := newLiveOn(80, 10, "a", "long-key", "done-key")
	l.draw(false)
	l.after(3 * time.Second)
	l.Saw(
		status.Event{
			Key:        "long-key",
			Generation: 2,
			Step:       "import",
			Phase:      status.Failed,
			Vault:      "weu",
			Error:      "403\nforbidden",
		},
	)
	l.Saw(
		status.Event{
			Key:        "done-key",
			Generation: 2,
			Step:       "finish",
			Phase:      status.Done,
			Detail:     "active in every vault",
		},
	)
	l.Saw(status.Event{Key: "somebody-elses", Step: "finish", Phase: status.Done})
	l.after(65 * time.Second)
	l.draw(false)
	wantScreen(t, l.screen,
		"  a         1 min 05 s  requested",
		"✗ long-key  1 min 05 s  generation 2  import  weu  failed  403 forbidden",
		"✓ done-key       3.0 s  generation 2  finished  active in every vault")
}

func TestLiveViewIsRedrawnAfterTheTerminalBecameNarrower(t *testing.T) {
	l := newLiveOn(60, 10, "a", "b")
	long := status.Event{
		Key:        "a",
		Generation: 2,
		Step:       "wait",
		Phase:      status.Wait,
		Detail:     "for a vault that does not answer",
	}
	l.Saw(long)
	l.draw(false)
	l.screen.resize(30)
	l.draw(false)
	wantScreen(t, l.screen,
		"  a       0.0 s  generation …",
		"  b       0.0 s  requested")
	l.screen.resize(60)
	l.draw(false)
	wantScreen(t, l.screen,
		"  a       0.0 s  generation 2  wait  waits  for a vault th…",
		"  b       0.0 s  requested")
}

func TestMoreKeysThanRowsAreCounted(t *testing.T) {
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%02d", i)
	}
	l := newLiveOn(80, 5, keys...)
	l.Saw(status.Event{Key: "key-00", Step: "finish", Phase: status.Done})
	l.Saw(status.Event{Key: "key-18", Step: "generate", Phase: status.Begin})
	l.Saw(status.Event{Key: "key-19", Step: "import", Phase: status.Failed, Detail: "why", Error: "key key-19: 403"})
	l.draw(false)
	l.draw(false)
	wantScreen(t, l.screen,
		"✗ key-19       0.0 s  import  failed  403",
		"  key-18       0.0 s  generate  …",
		"  key-01       0.0 s  requested",
		"  and 17 more; of all 20 keys: 1 failed, 1 under way, 17 waiting, 1 ended")

	l.draw(true)
	if got := l.screen.all(); strings.Count(got, "\n") != 19 || !strings.HasPrefix(got, "✓ key-00") {
		t.Errorf("at the end every key should have its line once:\n%s", got)
	}
}

func TestLiveViewShowsThatTheDaemonIsAway(t *testing.T) {
	l := newLiveOn(100, 10, "a")
	l.Away(true)
	l.draw(false)
	wantScreen(t, l.screen, "  a       0.0 s  requested",
		"The daemon went away; waiting up to a minute for it. It goes on where it was.")
	l.Away(false)
	l.draw(false)
	wantScreen(t, l.screen, "  a       0.0 s  requested")
}
