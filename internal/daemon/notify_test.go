package daemon

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// notified is systemd's end of sd_notify.
type notified struct {
	*testing.T
	socket *net.UnixConn
}

func listenAsSystemd(t *testing.T) notified {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	if err := socket.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000") // a ping each 10 ms
	t.Setenv("WATCHDOG_PID", "")
	return notified{t, socket}
}

// until reads messages up to the first one that equals want, and returns those before it.
func (s notified) until(want string) (before []string) {
	s.Helper()
	buffer := make([]byte, 4096)
	for {
		n, err := s.socket.Read(buffer)
		if err != nil {
			s.Fatalf("waiting for %s after %q: %v", want, before, err)
		}
		message := string(buffer[:n])
		if message == want {
			return before
		}
		before = append(before, message)
	}
}

func TestKeydAsksSystemdForMoreTimeOncePerTurnUntilReady(t *testing.T) {
	systemd := listenAsSystemd(t)
	d, _ := newDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.notify(ctx) }()
	defer func() { cancel(); <-ended }()

	systemd.until("WATCHDOG=1")
	if turn := systemd.until("WATCHDOG=1"); !slices.Equal(turn, []string{"EXTEND_TIMEOUT_USEC=60000000"}) {
		t.Errorf("between two pings before the first look: %q, want one more minute", turn)
	}
	d.mu.Lock()
	d.readyAt = time.Now()
	d.mu.Unlock()
	systemd.until("READY=1")
	for range 3 {
		for _, message := range systemd.until("WATCHDOG=1") {
			if strings.HasPrefix(message, "EXTEND_TIMEOUT_USEC") {
				t.Errorf("after READY: %s", message)
			}
		}
	}
	cancel()
	systemd.until("STOPPING=1")
}
