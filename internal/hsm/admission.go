package hsm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// No client can use up the connections, the memory or the time of the others: each user has places of its own, a
// request must arrive within a moment once it has begun, and it has at most the size that its call needs.

const (
	maxConns   = 2 * maxSessions  // of one user at once; more wait to be served, whatever their class
	maxWaiting = maxConns         // of one user; more are refused
	frameTime  = 10 * time.Second // for a request to arrive, once its first byte has
	maxWait    = time.Hour        // for an answer, whatever the caller says
)

// requestSizes are the most bytes that the parameters of each call may have.
var requestSizes = map[string]int{
	"Describe": 64, "Inventory": 64, "NewIDs": 64, "AuditKey": 64, "MakeAuditKey": 64,
	"Find": 256, "PublicKey": 256, "Destroy": 256,
	"MayGenerate":    1 << 10,
	"Generate":       1 << 10,
	"Opens":          2 << 10,
	"CheckKEK":       4<<10 + key.MaxAttestation,
	"WrapFor":        4<<10 + key.MaxAttestation,
	"Follow":         8<<10 + chain.MaxStubs*256, // a stub has the name of a key or a vault, and a hash
	"SignCheckpoint": 8<<10 + chain.MaxStubs*256,
}

// otherRequest is the most that the parameters of a call may have that this side does not know.
const otherRequest = 64

// places are the connections of each user.
type places struct {
	mu   sync.Mutex
	held map[int]*userPlaces
}

type userPlaces struct {
	served  chan struct{}
	waiting int
}

var errNoPlace = errors.New("the user has too many connections")

// take waits for a place of the user, and returns how to give it back. errNoPlace: too many wait already. After ctx has
// ended there is none.
func (p *places) take(ctx context.Context, uid int) (leave func(), err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	u := p.of(uid)
	leave = func() { <-u.served }
	select {
	case u.served <- struct{}{}: // a free one counts for nobody as waiting
		return leave, nil
	default:
	}
	if err := p.queue(u); err != nil {
		return nil, err
	}
	defer p.unqueue(u)
	select {
	case u.served <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// of returns the places of a user. Only users that may connect come here, so they are few.
func (p *places) of(uid int) *userPlaces {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = map[int]*userPlaces{}
	}
	u := p.held[uid]
	if u == nil {
		u = &userPlaces{served: make(chan struct{}, maxConns)}
		p.held[uid] = u
	}
	return u
}

func (p *places) queue(u *userPlaces) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.waiting == maxWaiting {
		return errNoPlace
	}
	u.waiting++
	return nil
}

func (p *places) unqueue(u *userPlaces) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u.waiting--
}

// readRequest waits for the next request of a connection and reads it. Once its first byte is there, the rest must
// follow within frameTime. io.EOF means that the peer closed the connection between two requests.
func readRequest(ctx context.Context, conn net.Conn, r *bufio.Reader) (request, error) {
	if _, err := r.Peek(1); err != nil {
		return request{}, err
	}
	late := !arrived(r)
	if late {
		if err := conn.SetReadDeadline(time.Now().Add(frameTime)); err != nil {
			return request{}, err
		}
	}
	if err := checkSize(r); err != nil {
		return request{}, unexpected(err)
	}
	frame, err := readFrame(r)
	if err != nil {
		return request{}, err
	}
	if late {
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			return request{}, err
		}
		if ctx.Err() != nil { // its end set a deadline, too
			return request{}, ctx.Err()
		}
	}
	return decodeRequest(frame)
}

// arrived reports whether a whole frame is in the buffer.
func arrived(r *bufio.Reader) bool {
	if r.Buffered() < 4 {
		return false
	}
	head, err := r.Peek(4)
	return err == nil && uint64(r.Buffered()) >= 4+uint64(binary.BigEndian.Uint32(head))
}

// checkSize refuses a request that is longer than its call needs, before its bytes are read.
func checkSize(r *bufio.Reader) error {
	const before = 4 + requestHead // of the method
	head, err := r.Peek(4)
	if err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(head))
	if n < requestHead {
		return errors.New("a malformed request: it is cut short")
	}
	if head, err = r.Peek(before); err != nil {
		return err
	}
	length := int64(head[before-1])
	if n < requestHead+length {
		return errors.New("a malformed request: it is cut short")
	}
	if head, err = r.Peek(before + int(length)); err != nil {
		return err
	}
	method := string(head[before:])
	limit, known := requestSizes[method]
	if !known {
		limit = otherRequest
	}
	if size := n - requestHead - length; size > int64(limit) {
		return fmt.Errorf("a request of call %q with %d bytes: the limit is %d", method, size, limit)
	}
	return nil
}
