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
	d.nowReady("test")
	systemd.until("READY=1")
	systemd.until("WATCHDOG=1") // of a turn that had begun before
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

// lineMaker counts how often the status line is made.
type lineMaker struct {
	now   time.Time
	costs time.Duration
	text  string
	made  int
}

func (m *lineMaker) line() statusLine {
	return statusLine{clock: func() time.Time { return m.now }, make: func() string {
		m.made++
		m.now = m.now.Add(m.costs)
		return m.text
	}}
}

func TestTheStatusLineIsMadeAfterAChangeAndOtherwiseSeldom(t *testing.T) {
	m := &lineMaker{now: time.Unix(1_000_000, 0), text: "1 key, all well"}
	line, changed := m.line(), make(chan struct{}, 1)
	if text, ok := line.next(changed); text != m.text || !ok {
		t.Errorf("the first line is %q, %v", text, ok)
	}
	quiet := func(d time.Duration) {
		for end := m.now.Add(d); m.now.Before(end); m.now = m.now.Add(time.Second) {
			if text, ok := line.next(changed); ok {
				t.Errorf("there is a line after no change: %q", text)
			}
		}
	}
	quiet(lineAge)
	if m.made != 1 {
		t.Errorf("the line was made %d times while nothing changed", m.made)
	}
	quiet(lineAge)
	if m.made != 2 {
		t.Errorf("the line was made %d times in twice its greatest age", m.made)
	}
	changed <- struct{}{}
	m.now, m.text = m.now.Add(linePause), "1 key, 1 problem"
	if text, ok := line.next(changed); text != m.text || !ok || m.made != 3 {
		t.Errorf("after a change the line is %q, %v (made %d times)", text, ok, m.made)
	}
}

func TestAStatusLineThatIsDearIsMadeSeldomHoweverMuchChanges(t *testing.T) {
	m := &lineMaker{now: time.Unix(1_000_000, 0), costs: 100 * time.Millisecond}
	line, changed := m.line(), make(chan struct{}, 1)
	for end := m.now.Add(time.Minute); m.now.Before(end); m.now = m.now.Add(time.Second) {
		select {
		case changed <- struct{}{}:
		default:
		}
		line.next(changed)
	}
	if m.made > 60/5+1 {
		t.Errorf("a line of 100 ms was made %d times in a minute", m.made)
	}
}

func TestWithoutSystemdNoStatusLineIsMade(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	d, _ := newDaemon(t)
	d.nowReady("test")
	store := &counted{d.store, map[string]int{}}
	d.store = store
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.notify(ctx)
	if len(store.loads) != 0 {
		t.Errorf("the records were read: %v", store.loads)
	}
}
