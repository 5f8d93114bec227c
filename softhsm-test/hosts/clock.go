package main

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// now is the time by the clock of the daemons and of Azure.
func (w *world) now() time.Time { return w.clock.Load().Now() }

// pass has some time pass at once, for Azure and for the hosts that run, which are stopped meanwhile. It returns once
// each of them answers again, or was killed.
func (w *world) pass(d time.Duration) error {
	var up []*host
	for _, h := range w.hosts {
		if !h.runs() {
			continue
		}
		switch err := h.stop(); {
		case err == nil:
			up = append(up, h)
		case !h.killed():
			return err
		}
	}
	later := w.clock.Load().Later(d)
	w.clock.Store(&later)
	for _, h := range up {
		if err := h.launch(later); err != nil {
			return err
		}
	}
	for _, h := range up {
		var last error
		err := w.eventually(fmt.Sprintf("the daemon of host %s answers %s later", h.name, d), func() bool {
			if !h.runs() && !h.killed() {
				last = h.launch(later) // as systemd does
				return false
			}
			_, last = h.look()
			return last == nil || h.killed()
		})
		if err != nil {
			return errors.Join(err, last)
		}
	}
	return nil
}

// killed reports whether the daemon was killed, and did not end by itself.
func (h *host) killed() bool {
	if h.cmd == nil || h.runs() {
		return false
	}
	status, ok := h.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
