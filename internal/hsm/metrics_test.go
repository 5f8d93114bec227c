package hsm

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

// When systemd restarts the service, only this shows it: the service is up again before the next scrape.
func TestEachLossOfTheHSMSideIsCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	reg := prometheus.NewRegistry()
	c := Dial(path, Timeouts{}, reg)
	defer c.Close()
	now := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	c.metrics.clock = func() time.Time { return now }
	describe := func(up bool) {
		t.Helper()
		if _, err := c.Describe(t.Context()); (err == nil) != up || (err != nil && !IsCode(err, Connection)) {
			t.Fatalf("up %v: %v", up, err)
		}
	}
	describe(false) // it was never up, so this is not a loss
	for range 3 {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			s := &server{
				calls:     &fakeCalls{},
				permitted: unread,
				log:       slog.New(slog.DiscardHandler),
				uids:      []int{os.Getuid()},
			}
			ended <- s.serve(ctx, l)
		}()
		describe(true)
		describe(true)
		stop()
		<-ended
		describe(false)
		describe(false) // still the same loss
		now = now.Add(10 * time.Minute)
	}
	want := `
# HELP keyd_hsm_losses_total Times that the HSM process no longer answered after it had answered.
# TYPE keyd_hsm_losses_total counter
keyd_hsm_losses_total 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "keyd_hsm_losses_total"); err != nil {
		t.Error(err)
	}
	if n := c.Lost(); n != 2 {
		t.Errorf("%d losses within half an hour, want 2", n)
	}
}

func TestALossBetweenTwoAnsweredCallsIsCounted(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			c, cut := connect(&fakeCalls{})
			for range 3 {
				if _, err := c.Describe(t.Context()); err != nil {
					t.Fatal(err)
				}
				cut()
			}
			if n := testutil.ToFloat64(c.metrics.losses); n != 2 || testutil.ToFloat64(c.metrics.up) != 1 {
				t.Errorf("%v losses, want 2", n)
			}
		})
	}
}

// A caller that gives up while keyd writes its request says nothing about the HSM side.
func TestACancelledCallIsNotALoss(t *testing.T) {
	ours, theirs := net.Pipe() // nobody reads
	defer theirs.Close()
	c := newClient(fixed{ours}, Timeouts{}, newMetrics(prometheus.NewRegistry()))
	c.metrics.setUp(true)
	c.putIdle(newLink(ours))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.exchange(ctx, request{Method: "Describe"}, key.Retry, func([]byte) error { return nil })
	if err == nil || key.ClassOf(err) != key.Retry {
		t.Errorf("%v", err)
	}
	if n := testutil.ToFloat64(c.metrics.losses); n != 0 {
		t.Errorf("%v losses", n)
	}
}

func TestTheStateOfThePINIsShown(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	shown := func(want string) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var on []string
		n := 0
		for _, f := range families {
			if f.GetName() != "keyd_hsm_pin_state" {
				continue
			}
			for _, s := range f.GetMetric() {
				n++
				if s.GetGauge().GetValue() == 1 {
					on = append(on, s.GetLabel()[0].GetValue())
				}
			}
		}
		if n != len(key.PINStates()) || strings.Join(on, " ") != want {
			t.Errorf("of %d states %q, want %q", n, on, want)
		}
	}
	shown("")
	for state, want := range map[key.PINState]string{
		key.PINAccepted: "accepted", key.PINFinalTry: "final-try", key.PINCountLow: "few-tries-left",
		key.PINToChange: "to-be-changed",
	} {
		c := described(t, m, state)
		if _, err := c.Describe(t.Context()); err != nil {
			t.Fatal(err)
		}
		shown(want)
	}
	m.observe("Generate", time.Now(), refused(PINRefused, "no"))
	shown("refused")
}

// described returns a client, with metrics m, of an HSM side that reports this state of its PIN.
func described(t *testing.T, m *metrics, state key.PINState) *Client {
	t.Helper()
	c, _ := transports(t)["handed over"](withPIN{&fakeCalls{}, state})
	c.metrics = m
	return c
}

type withPIN struct {
	*fakeCalls
	state key.PINState
}

func (f withPIN) Describe(context.Context) (description, error) {
	return description{HSMInfo: key.HSMInfo{Token: "fake", PIN: f.state}}, nil
}

// With a real token: keyd is logged in, and another program tries a wrong PIN.
func TestAWrongPINFromAnotherProgramShows(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	keyd := start(t, tok, newChild(t, tok))
	if info, err := keyd.Describe(t.Context()); err != nil || info.PIN != key.PINAccepted {
		t.Fatalf("before it: %+v, %v", info, err)
	}
	another := newChild(t, tok)
	another.Config.PINFile = filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(another.Config.PINFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := start(t, tok, another).Describe(t.Context()); err != nil || !info.PINRefused {
		t.Fatalf("the other program: %+v, %v", info, err)
	}
	info, err := keyd.Describe(t.Context())
	if err != nil || info.PIN != key.PINCountLow || info.Degraded != "" {
		t.Errorf("%q, degraded %q, %v; want %q and able to work", info.PIN, info.Degraded, err, key.PINCountLow)
	}
	if got := testutil.ToFloat64(keyd.metrics.pinState.WithLabelValues("few-tries-left")); got != 1 {
		t.Errorf("the metric shows %v", got)
	}
}
