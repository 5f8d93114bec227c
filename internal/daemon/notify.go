package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/words"
)

// moreTime gives the start another minute (in microseconds). A first look at many keys in vaults that do not answer
// takes longer than any fixed limit, and killing keyd for it would cause a restart loop.
const moreTime = "EXTEND_TIMEOUT_USEC=60000000"

// notify reports to systemd (sd_notify(3)), after nowReady: a status line when it changes, and watchdog pings while the
// loop turns.
func (d *Daemon) notify(ctx context.Context) {
	pause := 2 * time.Second
	if watchdog, err := sd.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		pause = min(pause, watchdog/3)
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	ready := false
	line := statusLine{make: d.statusLine, clock: time.Now}
	for {
		if ok, _ := d.Ready(); ok && !ready {
			ready = true
		}
		if os.Getenv("NOTIFY_SOCKET") != "" { // otherwise nobody would read it
			if text, ok := line.next(d.changed); ok {
				_, _ = sd.SdNotify(false, "STATUS="+text)
			}
		}
		if stuck := d.Stuck(); stuck == "" {
			for _, message := range alive(ready) {
				_, _ = sd.SdNotify(false, message)
			}
		} else {
			d.log.Error("no watchdog ping", "reason", stuck)
		}
		select {
		case <-ctx.Done():
			_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
			return
		case <-tick.C:
		}
	}
}

// alive is what keyd reports to systemd while the loop turns.
func alive(ready bool) []string {
	if ready {
		return []string{sd.SdNotifyWatchdog}
	}
	return []string{sd.SdNotifyWatchdog, moreTime}
}

// happened passes on an event of the loop.
func (d *Daemon) happened(e status.Event) {
	d.hub.publish(e)
	d.touch()
}

// touch says that something changed that a status line, or another host, may show.
func (d *Daemon) touch() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
	select {
	case d.news <- struct{}{}:
	default:
	}
}

const (
	// linePause is the shortest time between two status lines, and lineShare how many times as long as making one
	// takes keyd waits before it makes the next: with many keys under way everything changes all the time.
	linePause = 2 * time.Second
	lineShare = 50
	// lineAge is when a line is made again though nothing was seen to change: problems also come with time.
	lineAge = 30 * time.Second
)

// statusLine is the line that systemd shows. Making it costs a pass over all keys, so it is made after a change only.
type statusLine struct {
	make  func() string
	clock func() time.Time

	text string
	made time.Time
	took time.Duration
}

// next makes the line if something changed. ok is false while there is no other line to show.
func (l *statusLine) next(changed <-chan struct{}) (text string, ok bool) {
	now := l.clock()
	age := now.Sub(l.made)
	if !l.made.IsZero() && age >= 0 {
		if age < max(linePause, lineShare*l.took) {
			return "", false
		}
		if len(changed) == 0 && age < lineAge {
			return "", false
		}
	}
	select {
	case <-changed: // what changes from here on is for the next line
	default:
	}
	before := l.text
	l.text = l.make()
	l.made, l.took = now, l.clock().Sub(now)
	return l.text, l.text != before
}

func (d *Daemon) statusLine() string {
	if ready, _ := d.Ready(); !ready {
		return "looking at every vault for the first time"
	}
	s := d.overview(context.Background())
	if len(s.Problems) > 0 {
		return fmt.Sprintf(
			"%s, %s; the worst: %s",
			words.Count(len(s.Keys), "key"),
			words.Count(len(s.Problems), "problem"),
			s.Problems[0].Text,
		)
	}
	return words.Count(len(s.Keys), "key") + ", all well"
}
