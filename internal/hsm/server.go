package hsm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxInFlight  = 64 // requests of one connection
	writeTimeout = 10 * time.Second
	lastWords    = time.Second // for answers in flight when the process ends
)

// server answers the protocol on connections.
type server struct {
	calls calls
	log   *slog.Logger
	uids  []int // who may connect to a listener
}

// serveListener accepts connections of the allowed users until ctx ends.
func (s *server) serveListener(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on the HSM socket: %w", err)
		}
		if err := s.admit(conn); err != nil {
			s.log.WarnContext(ctx, "connection to the HSM socket refused", "reason", err)
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := s.serveConn(ctx, conn); err != nil {
				s.log.WarnContext(ctx, "connection to the HSM socket ended", "reason", err)
			}
		})
	}
}

// admit checks the peer's uid (SO_PEERCRED, unix(7)).
func (s *server) admit(conn net.Conn) error {
	uid, err := peerUID(conn)
	if err != nil {
		return err
	}
	if !slices.Contains(s.uids, uid) {
		return fmt.Errorf("uid %d is not one of %v", uid, s.uids)
	}
	return nil
}

func peerUID(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}

// serveConn answers requests, several at a time, until the peer closes, sends
// what is no frame, or ctx ends. Then it waits a moment for answers in flight.
// Closing conn is the caller's.
func (s *server) serveConn(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()

	w := &frameWriter{conn: conn}
	var inFlight sync.WaitGroup
	err := s.readRequests(ctx, conn, w, &inFlight)
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		err = nil
	}
	waitFor(&inFlight, lastWords)
	return err
}

func (s *server) readRequests(ctx context.Context, conn net.Conn, w *frameWriter, inFlight *sync.WaitGroup) error {
	places := make(chan struct{}, maxInFlight)
	r := bufio.NewReader(conn)
	for {
		frame, err := readFrame(r)
		if err != nil {
			return err
		}
		req, err := decodeRequest(frame)
		if err != nil {
			return fmt.Errorf("a malformed request: %w", err)
		}
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		inFlight.Go(func() {
			defer func() { <-places }()
			if err := w.write(s.answer(ctx, req)); err != nil {
				s.log.WarnContext(ctx, "answer not sent", "call", req.Method, "reason", err)
			}
		})
	}
}

func (s *server) answer(ctx context.Context, req request) response {
	// A call is not cut off when the server stops: its effect may be done already.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(req.TimeoutMS)*time.Millisecond)
	defer cancel()
	result, err := dispatch(ctx, s.calls, req.Method, req.Params)
	if err != nil {
		s.log.WarnContext(ctx, "call failed", "call", req.Method, "error", err)
		return response{ID: req.ID, Error: toWire(err)}
	}
	body, err := json.Marshal(result)
	if err != nil {
		return response{ID: req.ID, Error: toWire(err)}
	}
	return response{ID: req.ID, Result: body}
}

// message is a request or a response.
type message interface{ encode() ([]byte, error) }

// frameWriter writes whole frames, one at a time.
type frameWriter struct {
	mu   sync.Mutex
	conn net.Conn
}

func (w *frameWriter) write(v message) error {
	frame, err := v.encode()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = w.conn.Write(frame)
	return err
}

func waitFor(wg *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
