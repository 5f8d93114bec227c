package hsm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/priority"
)

const (
	writeTimeout = 10 * time.Second
	shortFrame   = 16 << 10    // always fits: a unix socket's buffer has 200 KiB
	lastWords    = time.Second // time for answers in flight when the process ends
)

// server answers requests on connections.
type server struct {
	calls     calls
	permitted Permitted
	log       *slog.Logger
	uids      []int // who may connect

	places     places
	complaints complaints
}

// serve accepts connections from the allowed users until ctx or the listener (io.EOF) ends. Then it waits a moment
// for answers in flight.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer waitFor(&all, lastWords)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection to the HSM side: %w", err)
		}
		uid, err := s.admit(conn)
		if err != nil {
			s.complaints.log(ctx, s.log, "connection to the HSM socket refused", "reason", err)
			_ = conn.Close()
			continue
		}
		all.Go(func() {
			defer func() { _ = conn.Close() }()
			if err := s.serveUser(ctx, uid, conn); err != nil {
				s.complaints.log(ctx, s.log, "connection to the HSM socket ended", "uid", uid, "reason", err)
			}
		})
	}
}

// serveUser serves a connection once its user has a place for it.
func (s *server) serveUser(ctx context.Context, uid int, conn net.Conn) error {
	leave, err := s.places.take(ctx, uid)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer leave()
	return s.serveConn(ctx, conn)
}

// admit returns the peer's uid (SO_PEERCRED, unix(7)) if it may connect.
func (s *server) admit(conn net.Conn) (uid int, err error) {
	uid, err = peerUID(conn)
	if err == nil && !slices.Contains(s.uids, uid) {
		err = fmt.Errorf("uid %d is not one of %v", uid, s.uids)
	}
	return uid, err
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
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Uid), nil
}

// serveConn answers one request after the other until the peer closes, the peer sends something that is not a frame,
// or ctx ends. The caller closes conn.
func (s *server) serveConn(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	r := bufio.NewReader(conn)
	for {
		req, err := readRequest(ctx, conn, r)
		if ctx.Err() != nil || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a request cannot be read: %w", err)
		}
		if err := send(conn, s.under(s.answer(ctx, req))...); err != nil {
			return fmt.Errorf("the answer to %s was not sent: %w", req.Method, err)
		}
	}
}

// under says in each part of an answer which configuration the HSM side acts on.
func (s *server) under(answer []response) []response {
	by, err := s.permitted()
	if err != nil {
		return answer
	}
	for i := range answer {
		answer[i].Config = by.Digest()
	}
	return answer
}

// answer makes the call and returns its response, which has several parts if it is long.
func (s *server) answer(ctx context.Context, req request) []response {
	// A call continues when the server stops: it may already have had its effect.
	limit := min(time.Duration(req.TimeoutMS)*time.Millisecond, maxWait)
	ctx, cancel := context.WithTimeout(priority.With(context.WithoutCancel(ctx), req.Class), limit)
	defer cancel()
	var result any
	ctx, err := withDeadline(ctx, req, limit)
	if err == nil {
		result, err = dispatch(ctx, s.calls, req.Method, req.Params)
	}
	if err != nil {
		s.complaints.log(ctx, s.log, "call failed", "call", req.Method, "error", err)
		return []response{{Error: toWire(err)}}
	}
	parts := []any{result}
	if long, ok := result.(objectsResult); ok && len(long.Objects) > 0 {
		parts = long.parts()
	}
	answer := make([]response, len(parts))
	for i, part := range parts {
		body, err := encodeBody(part)
		if err != nil {
			return []response{{Error: toWire(err)}}
		}
		answer[i] = response{Result: body, More: i+1 < len(parts)}
	}
	return answer
}

// send writes an answer. The peer has writeTimeout to read each part of a long one. A short one always fits into the
// socket, because the peer sends its next request only after it has read the last answer.
func send(conn net.Conn, answer ...response) error {
	for _, part := range answer {
		frame, err := part.encode()
		if err != nil {
			return err
		}
		if len(answer) == 1 && len(frame) <= shortFrame {
			_, err := conn.Write(frame)
			return err
		}
		if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(frame); err != nil {
			return err
		}
	}
	return conn.SetWriteDeadline(time.Time{})
}

func waitFor(wg *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
