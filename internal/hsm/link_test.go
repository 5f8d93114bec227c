package hsm

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// A process may answer and end at once, and its client may notice the end first.
func TestTheLastAnswerOfAProcessThatEndsArrives(t *testing.T) {
	ours, file, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := unixConn(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(send(theirs, response{Result: []byte("{}")}), theirs.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	var got []byte
	take := func(part []byte) error { got = append(got, part...); return nil }
	if refusal, err := newLink(ours).exchange(t.Context(), []byte{0, 0, 0, 1, 0}, take); err != nil ||
		refusal != nil || string(got) != "{}" {
		t.Errorf("%q, %v, %v", got, refusal, err)
	}
}

// If a connection is idle while the other side restarts, no call fails.
func TestAnIdleConnectionThatEndedIsReplaced(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			c, cut := connect(&fakeCalls{})
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { _, _ = c.Describe(t.Context()) })
			}
			all.Wait()
			cut()
			if err := c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// The HSM side answers more simultaneous calls than it has places for. Afterwards only a few connections stay open.
func TestABurstOfCallsIsAnsweredAndLeavesRoom(t *testing.T) {
	for name, connect := range transports(t) {
		t.Run(name, func(t *testing.T) {
			f := &fakeCalls{release: make(chan struct{})}
			c, _ := connect(f)
			var all sync.WaitGroup
			for range maxConns + 20 {
				all.Go(func() {
					if err := c.Generate(t.Context(), newID(t), "a", 1, key.RSA2048, ""); err != nil {
						t.Error(err)
					}
				})
			}
			eventually(t, "every place is taken", func() bool { return f.waiting.Load() == maxConns })
			close(f.release)
			all.Wait()
			if n := len(c.idle); n == 0 || n > maxIdle {
				t.Errorf("%d connections lie idle", n)
			}
		})
	}
}

// If an answer arrives after its caller left, no other caller gets it.
func TestALateAnswerIsNotTakenForTheNextCall(t *testing.T) {
	f := &fakeCalls{release: make(chan struct{}), begun: make(chan struct{})}
	c, _ := transports(t)["unix socket"](f)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { left <- c.Generate(ctx, newID(t), "a", 1, key.RSA2048, "") }()
	<-f.begun
	cancel()
	wantCode(t, <-left, Busy, key.Ambiguous)
	close(f.release)
	if info, err := c.Describe(t.Context()); err != nil || info.Token != "fake" {
		t.Errorf("%+v, %v", info, err)
	}
}

// The time limit for reading a long answer applies only to that answer.
func TestALongAnswerLeavesNoDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		for _, size := range []int{shortFrame + 1, 1} {
			if err := send(b, response{Result: make([]byte, size)}); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
			time.Sleep(2 * writeTimeout)
		}
		_ = b.Close()
	})
}

func TestAPeerThatDoesNotReadALongAnswerIsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		if err := send(b, response{Result: make([]byte, maxFrame-responseHead)}); !errors.Is(
			err,
			os.ErrDeadlineExceeded,
		) {
			t.Errorf("got %v", err)
		}
	})
}
