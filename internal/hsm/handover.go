package hsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/key"
)

// A child has no socket in the file system. Its parent sends it connections over descriptor 3, each as a descriptor
// in a message of one byte (SCM_RIGHTS, unix(7)). In the other direction, descriptor 3 carries at most one frame: why
// the child ends. When the parent closes descriptor 3, the child ends.

const childFD = 3 // the first of exec.Cmd.ExtraFiles

// process is the parent's view of a child.
type process struct {
	control *net.UnixConn
	ended   chan struct{} // closed when the child closed control or said why it ends
	said    error         // why it ends, by its own words; nil if it said nothing; set before ended closes
	over    chan struct{} // closed when the child is gone
	reason  error         // why; set before over closes
}

func newProcess(control *net.UnixConn) *process {
	p := &process{control: control, ended: make(chan struct{}), over: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.said = p.listen()
	}()
	return p
}

// listen waits for the child's last message.
func (p *process) listen() error {
	frame, err := readFrame(p.control)
	if err != nil {
		return nil //nolint:nilerr // it ended without a word
	}
	last, err := decodeResponse(frame)
	if err != nil || last.Error == nil {
		return errors.Join(errors.New("its last message makes no sense"), err)
	}
	return last.Error.error()
}

// finish notes why the child ended: its own last message, or else what the parent observed. The message may still be
// in transit.
func (p *process) finish(watched, waited error) error {
	select {
	case <-p.ended:
		p.reason = p.said
	case <-time.After(lastWords):
	}
	if p.reason == nil {
		p.reason = cmp.Or(waited, errors.New("without a word"))
		if errors.Is(watched, context.DeadlineExceeded) { // so it was killed
			p.reason = fmt.Errorf("%w (%w)", p.reason, watched)
		}
	}
	close(p.over)
	return p.reason
}

// lent is a connection to a child. When it breaks, its error says why the child ended, not only that it ended.
type lent struct {
	net.Conn
	p *process
}

func (l lent) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	return n, l.why(err)
}

func (l lent) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	return n, l.why(err)
}

// why returns the reason for which the child ended, if it ends within a moment, and err otherwise.
func (l lent) why(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return err
	}
	select {
	case <-l.p.over:
		return fmt.Errorf("the HSM process ended: %w", l.p.reason)
	case <-time.After(lastWords):
		return err
	}
}

// dial makes a connected pair of sockets, sends one end to the child and returns the other.
func (p *process) dial(context.Context) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, newError(Connection, key.Retry, "make a connection to the HSM process: %w", err)
	}
	_, _, err = p.control.WriteMsgUnix([]byte{0}, unix.UnixRights(int(theirs.Fd())), nil)
	if err := errors.Join(err, theirs.Close()); err != nil {
		return nil, newError(
			Connection, key.Retry, "give the HSM process a connection: %w", errors.Join(err, ours.Close()),
		)
	}
	return ours, nil
}

// socketPair makes a connected pair; both ends close on exec.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	theirs = os.NewFile(uintptr(fds[1]), "hsm-child")
	ours, err = unixConn(os.NewFile(uintptr(fds[0]), "hsm"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// unixConn turns f into a connection and closes f.
func unixConn(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), conn.Close())
	}
	return u, nil
}

// handed is the listener for connections that the parent hands over.
type handed struct{ control *net.UnixConn }

// ChildListener returns the listener for connections that Supervisor hands over to this process.
func ChildListener() (net.Listener, error) {
	unix.CloseOnExec(childFD)
	control, err := unixConn(os.NewFile(childFD, "parent"))
	if err != nil {
		return nil, fmt.Errorf(
			"descriptor %d is not the parent's socket: only keyd itself starts `keyd hsm --child`: %w", childFD,
			err,
		)
	}
	return &handed{control}, nil
}

// Accept waits for the next connection. io.EOF means that the parent is gone or that Close was called.
func (h *handed) Accept() (net.Conn, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := h.control.ReadMsgUnix(b[:], oob) // close-on-exec is set
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, fmt.Errorf("the parent handed over %d messages", len(messages))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("the parent handed over %d descriptors at once", len(fds))
	}
	return unixConn(os.NewFile(uintptr(fds[0]), "hsm"))
}

// Close ends Accept. Until the process ends, say can still tell the parent why.
func (h *handed) Close() error { return h.control.CloseRead() }

func (h *handed) Addr() net.Addr { return h.control.LocalAddr() }

// say tells the parent why this process ends.
func (h *handed) say(reason error) { _ = send(h.control, response{Error: toWire(reason)}) }
