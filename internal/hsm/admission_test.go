package hsm

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/prometheus/client_golang/prometheus"
)

// heldOpen serves one connection of a pipe, and returns the peer's end and how the connection ended.
func heldOpen(t *testing.T) (peer net.Conn, ended chan error) {
	t.Helper()
	peer, served := net.Pipe()
	t.Cleanup(func() { _ = peer.Close() })
	s := &server{calls: &fakeCalls{}, permitted: unread, log: slog.New(slog.DiscardHandler)}
	ended = make(chan error, 1)
	go func() { ended <- s.serveConn(t.Context(), served); _ = served.Close() }()
	return peer, ended
}

func TestARequestMustArriveSoonAfterItsFirstByte(t *testing.T) {
	whole, err := request{Method: "Describe", TimeoutMS: 1000}.encode()
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < len(whole); cut++ {
		synctest.Test(t, func(t *testing.T) {
			peer, ended := heldOpen(t)
			if _, err := peer.Write(whole[:cut]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(frameTime - time.Second)
			if len(ended) > 0 {
				t.Errorf("%d bytes: the connection ended before its time: %v", cut, <-ended)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if len(ended) == 0 || !errors.Is(<-ended, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes: the connection is still open", cut)
			}
		})
	}
}

func TestAnIdleConnectionStaysOpenAndAnswersLater(t *testing.T) {
	whole, err := request{Method: "Describe", TimeoutMS: 1000}.encode()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		peer, ended := heldOpen(t)
		for range 2 {
			time.Sleep(time.Hour)
			for _, part := range [][]byte{whole[:5], whole[5:]} { // in two parts, so that a deadline is set
				if _, err := peer.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := readFrame(peer); err != nil {
				t.Fatal(err)
			}
		}
		if len(ended) > 0 {
			t.Errorf("the connection ended: %v", <-ended)
		}
		_ = peer.Close()
		synctest.Wait()
	})
}

func TestARequestLongerThanItsCallNeedsIsNotRead(t *testing.T) {
	for method, limit := range requestSizes {
		for size, fits := range map[int]bool{limit: true, limit + 1: false} {
			whole, err := request{Method: method, TimeoutMS: 1000, Params: make([]byte, size)}.encode()
			if err != nil {
				t.Fatal(err)
			}
			peer, ended := heldOpen(t)
			_ = peer.SetDeadline(time.Now().Add(time.Minute))
			_, _ = peer.Write(whole)
			if fits {
				if _, err := readFrame(peer); err != nil {
					t.Errorf("%s of %d bytes: %v", method, size, err)
				}
				_ = peer.Close()
			}
			if err := <-ended; (err == nil) != fits {
				t.Errorf("%s of %d bytes: %v", method, size, err)
			}
		}
	}
	peer, ended := heldOpen(t)
	head := binary.BigEndian.AppendUint32(nil, maxFrame)
	_, _ = peer.Write(append(head, "\x00\x00\x00\x01\x00\x05Other"...)) // the rest never comes
	if err := <-ended; err == nil {
		t.Error("a long request of an unknown call was waited for")
	}
}

func TestEveryCallHasALimit(t *testing.T) {
	all := reflect.TypeFor[calls]()
	for i := range all.NumMethod() {
		if name := all.Method(i).Name; requestSizes[name] == 0 {
			t.Errorf("call %s has no limit", name)
		}
	}
	if all.NumMethod() != len(requestSizes) {
		t.Errorf("%d calls, %d limits", all.NumMethod(), len(requestSizes))
	}
}

func TestEachUserHasPlacesOfTheirOwn(t *testing.T) {
	var p places
	for range maxConns {
		if _, err := p.take(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	leave, err := p.take(t.Context(), 2)
	if err != nil {
		t.Fatalf("another user got no place: %v", err)
	}
	leave()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.take(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("one more of the first user: %v", err)
	}
}

func TestMoreConnectionsThanMayWaitAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var p places
		for range maxConns + maxWaiting {
			go func() { _, _ = p.take(ctx, 1) }()
		}
		synctest.Wait()
		if _, err := p.take(ctx, 1); !errors.Is(err, errNoPlace) {
			t.Errorf("one more than may wait: %v", err)
		}
		cancel()
	})
}

// The HSM side goes on accepting, so others get in.
func TestTooManyConnectionsOfAUserAreClosedAndNothingElseHappens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsm.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	s := &server{calls: &fakeCalls{}, permitted: unread, log: slog.New(slog.DiscardHandler), uids: []int{os.Getuid()}}
	go func() { done <- s.serve(ctx, l) }()
	var held []net.Conn
	closed := make(chan bool, 1)
	for range maxConns + maxWaiting + 1 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		go func() {
			if _, err := conn.Read(make([]byte, 1)); err != nil {
				select {
				case closed <- true:
				default:
				}
			}
		}()
	}
	<-closed
	for _, conn := range held {
		_ = conn.Close()
	}
	client := Dial(path, Timeouts{}, prometheus.NewRegistry())
	_, err = client.Describe(t.Context())
	for key.ClassOf(err) == key.Retry { // until the HSM side has noticed that they left
		_, err = client.Describe(t.Context())
	}
	if err != nil {
		t.Errorf("after they left: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
