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

// link is the client's end of one connection. One call at a time uses it and reads its own answer: waking a separate
// reading goroutine would take longer.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	// config is the digest of the configuration that the HSM side acted on, by its last answer.
	config string
}

func newLink(conn net.Conn) *link { return &link{conn: conn, r: bufio.NewReader(conn)} }

// errNotSent: the other side cannot have received the whole request, so nothing happened.
var errNotSent = errors.New("not sent")

// exchange sends a request's frame and waits for its answer until ctx ends. take gets each part of a result. After any
// error exchange closes the link, which is then unusable.
func (l *link) exchange(ctx context.Context, frame []byte, take func([]byte) error) (refusal *wireError, err error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // the deadline has passed or is about to pass
		}
		if err != nil {
			_ = l.conn.Close()
		}
	}()
	if _, err := l.conn.Write(frame); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, inTime(ctx, err))
	}
	for {
		answer, err := l.receive(ctx)
		if err != nil || answer.Error != nil {
			return answer.Error, err
		}
		if err := take(answer.Result); err != nil {
			return nil, fmt.Errorf("%w: %w", errNonsense, err)
		}
		if !answer.More {
			return nil, nil
		}
	}
}

// errNonsense: the answer cannot be decoded.
var errNonsense = errors.New("the answer makes no sense")

// receive reads one response, which may be a part of an answer.
func (l *link) receive(ctx context.Context) (response, error) {
	body, err := readFrame(l.r)
	if err == io.EOF { //nolint:errorlint // a wrapped one says more
		return response{}, fmt.Errorf("the HSM process closed the connection: %w", err)
	}
	if err != nil {
		return response{}, inTime(ctx, err)
	}
	answer, err := decodeResponse(body)
	if err != nil {
		return response{}, fmt.Errorf("the HSM process sent a malformed answer: %w", err)
	}
	l.config = answer.Config
	return answer, nil
}

// inTime returns the reason why ctx ended, if that caused err.
func inTime(ctx context.Context, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
