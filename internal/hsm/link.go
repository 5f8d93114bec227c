package hsm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// link is the client's end of one connection. One call at a time uses it, and
// reads its answer itself: a reading goroutine that hands answers on would have to
// be woken first.
type link struct {
	conn net.Conn
	r    *bufio.Reader
}

func newLink(conn net.Conn) *link { return &link{conn: conn, r: bufio.NewReader(conn)} }

// errNotSent: the other side cannot have got the whole request, so nothing happened.
var errNotSent = errors.New("not sent")

// exchange sends a request's frame and waits for its answer until ctx ends. After
// any error the link is of no more use, and is closed.
func (l *link) exchange(ctx context.Context, frame []byte) (answer response, err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // the deadline is past, or will be at any moment
		}
		if err != nil {
			_ = l.conn.Close()
		}
	}()
	if _, err := l.conn.Write(frame); err != nil {
		return response{}, fmt.Errorf("%w: %w", errNotSent, inTime(ctx, err))
	}
	body, err := readFrame(l.r)
	if err == io.EOF { //nolint:errorlint // one that is wrapped says more already
		return response{}, fmt.Errorf("the HSM process closed the connection: %w", err)
	}
	if err != nil {
		return response{}, inTime(ctx, err)
	}
	answer, err = decodeResponse(body)
	if err != nil {
		return response{}, fmt.Errorf("the HSM process sent a malformed answer: %w", err)
	}
	return answer, nil
}

// inTime is why ctx ended, when that is what made err.
func inTime(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
