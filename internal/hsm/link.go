package hsm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// link is the client's end of one connection; many calls share it.
type link struct {
	conn net.Conn
	w    frameWriter
	done chan struct{} // closed when the connection is of no more use

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan response
	reason  error // why it ended
}

func newLink(conn net.Conn) *link {
	l := &link{conn: conn, w: frameWriter{conn: conn}, done: make(chan struct{}), waiting: map[uint64]chan response{}}
	go l.read()
	return l
}

func (l *link) read() {
	r := bufio.NewReader(l.conn)
	for {
		frame, err := readFrame(r)
		if err != nil {
			l.end(fmt.Errorf("the HSM process closed the connection: %w", err))
			return
		}
		resp, err := decodeResponse(frame)
		if err != nil {
			l.end(fmt.Errorf("the HSM process sent a malformed answer: %w", err))
			return
		}
		if resp.ID == 0 {
			l.end(fmt.Errorf("the HSM process ended: %w", resp.Error.error()))
			return
		}
		l.mu.Lock()
		ch := l.waiting[resp.ID]
		delete(l.waiting, resp.ID)
		l.mu.Unlock()
		if ch != nil {
			ch <- resp // buffered
		}
	}
}

// drain lets what a peer said last, before it ended, be read, for at most limit.
func (l *link) drain(limit time.Duration) {
	select {
	case <-l.done:
	case <-time.After(limit):
	}
}

// end makes every call on the link fail. The first reason stays.
func (l *link) end(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != nil {
		return
	}
	l.reason = reason
	_ = l.conn.Close()
	close(l.done)
}

func (l *link) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

func (l *link) register() (uint64, chan response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	ch := make(chan response, 1)
	l.waiting[l.next] = ch
	return l.next, ch
}

func (l *link) unregister(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

// call sends one request and waits for its answer until ctx, which must have a
// deadline, ends. unsure is the class of an error after the request was sent;
// before that nothing can have happened.
func (l *link) call(ctx context.Context, method string, params any, unsure key.Class) (json.RawMessage, error) {
	body, err := json.Marshal(params)
	if err != nil {
		return nil, refused(BadRequest, "encode the parameters of %s: %w", method, err)
	}
	deadline, _ := ctx.Deadline()
	id, answer := l.register()
	defer l.unregister(id)
	req := request{ID: id, Method: method, TimeoutMS: milliseconds(time.Until(deadline)), Params: body}
	if err := ctx.Err(); err != nil {
		return nil, newError(Connection, key.Retry, "HSM call %s was not sent: %w", method, err)
	}
	if err := l.w.write(req); err != nil {
		l.end(fmt.Errorf("the connection to the HSM process broke: %w", err))
		return nil, newError(Connection, key.Retry, "HSM call %s was not sent: %w", method, errors.Join(err, l.why()))
	}
	select {
	case resp := <-answer:
		return resp.result()
	case <-l.done:
		select {
		case resp := <-answer:
			return resp.result()
		default:
			return nil, newError(Connection, unsure, "HSM call %s has no answer: %w", method, l.why())
		}
	case <-ctx.Done():
		return nil, newError(Busy, unsure, "HSM call %s has no answer yet: %w", method, ctx.Err())
	}
}

// milliseconds is d for the wire, and at least one.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max(1, d.Milliseconds()), math.MaxUint32))
}

func (r response) result() (json.RawMessage, error) {
	if r.Error != nil {
		return nil, r.Error.error()
	}
	return r.Result, nil
}
