package daemon

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyd-project/keyd/internal/words"
)

// moreTime gives the start another minute (in microseconds). A first look at many keys in vaults that do not answer
// takes longer than any fixed limit, and killing keyd for it would cause a restart loop.
const moreTime = "EXTEND_TIMEOUT_USEC=60000000"

// notify reports to systemd (sd_notify(3)): READY once keyd has looked at every vault, a status line when it changes,
// and watchdog pings while the loop turns.
func (d *Daemon) notify(ctx context.Context) {
	pause := 2 * time.Second
	if watchdog, err := sd.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		pause = min(pause, watchdog/3)
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	ready, last := false, ""
	for {
		if ok, _ := d.Ready(); ok && !ready {
			ready = true
			_, _ = sd.SdNotify(false, sd.SdNotifyReady)
			d.log.Info("ready: keyd has looked at every vault")
		}
		if line := d.statusLine(ready); line != last {
			last = line
			_, _ = sd.SdNotify(false, "STATUS="+line)
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

func (d *Daemon) statusLine(ready bool) string {
	if !ready {
		return "looking at every key for the first time"
	}
	s := d.Snapshot()
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
