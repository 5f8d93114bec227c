package hsm

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/keyd-project/keyd/internal/key"
)

// The protocol: frames of a 4-byte big-endian length, 1 to maxFrame, and that
// many bytes: a short binary head, and JSON behind it, so that no byte of JSON is
// read twice. Requests and responses are matched by id, in any order. A response
// with id 0 is the last word of a process that ends, and why.

const maxFrame = 1 << 20

// request is 8 bytes id, 4 bytes timeout in milliseconds (both big-endian), 1 byte
// length of the method, the method, and the parameters as JSON.
type request struct {
	ID     uint64
	Method string
	// TimeoutMS is how long the caller still waits. It is a duration, because
	// clocks jump.
	TimeoutMS uint32
	Params    json.RawMessage
}

// response is 8 bytes id (big-endian), 1 byte kind, and the result or the error as
// JSON.
type response struct {
	ID     uint64
	Result json.RawMessage
	Error  *wireError
}

// The kinds of a response.
const (
	kindResult = 'r'
	kindError  = 'e'
)

type wireError struct {
	Code    Code   `json:"code"`
	Class   string `json:"class"`
	Message string `json:"message"`
}

// description is the answer of Describe.
type description struct {
	key.HSMInfo
}

type inventoryParams struct {
	After key.ID `json:"after,omitempty"`
}

type inventoryResult struct {
	Objects []key.Object `json:"objects,omitempty"`
	More    bool         `json:"more,omitempty"`
}

type generateParams struct {
	ID     key.ID   `json:"id"`
	Key    string   `json:"key"`
	Number int      `json:"number"`
	Spec   key.Spec `json:"spec"`
}

type idParams struct {
	ID key.ID `json:"id"`
}

type publicKeyResult struct {
	Public *rsa.PublicKey `json:"public"`
}

type kekParams struct {
	KEK key.KEK `json:"kek"`
}

type checkKEKResult struct {
	How string `json:"how"`
}

type wrapParams struct {
	ID  key.ID  `json:"id"`
	KEK key.KEK `json:"kek"`
}

type wrapResult struct {
	Ciphertext []byte `json:"ciphertext"`
}

type opensParams struct {
	ID         key.ID `json:"id"`
	Ciphertext []byte `json:"ciphertext"`
	SHA256     []byte `json:"sha256"` // of what is expected
}

type opensResult struct {
	Opens bool `json:"opens"`
}

type checkpointParams struct {
	Checkpoint key.Checkpoint `json:"checkpoint"`
}

type signatureResult struct {
	Signature []byte `json:"signature"`
}

type empty struct{}

// readFrame reads one frame. io.EOF means that the peer closed between frames.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: the limit is %d", n, maxFrame)
	}
	var body bytes.Buffer // grows with what arrives, not with what is announced
	if got, err := io.CopyN(&body, r, int64(n)); err != nil {
		return nil, fmt.Errorf("a frame of %d bytes ended after %d: %w", n, got, unexpected(err))
	}
	return body.Bytes(), nil
}

func (r request) encode() ([]byte, error) {
	if len(r.Method) > math.MaxUint8 {
		return nil, fmt.Errorf("a method of %d bytes", len(r.Method))
	}
	b := binary.BigEndian.AppendUint64(newFrame(len(r.Params)), r.ID)
	b = binary.BigEndian.AppendUint32(b, r.TimeoutMS)
	b = append(append(b, byte(len(r.Method))), r.Method...)
	return closeFrame(append(b, r.Params...))
}

func (r response) encode() ([]byte, error) {
	kind, body := byte(kindResult), []byte(r.Result)
	if r.Error != nil {
		var err error
		if body, err = json.Marshal(r.Error); err != nil {
			return nil, err
		}
		kind = kindError
	}
	b := binary.BigEndian.AppendUint64(newFrame(len(body)), r.ID)
	return closeFrame(append(append(b, kind), body...))
}

// newFrame has room for its length, which closeFrame puts in, and for a head and
// a body.
func newFrame(body int) []byte { return make([]byte, 4, 64+body) }

func closeFrame(b []byte) ([]byte, error) {
	n := len(b) - 4
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: the limit is %d", n, maxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(n))
	return b, nil
}

// decodeStrict decodes exactly one JSON value without unknown fields.
func decodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

func decodeRequest(frame []byte) (request, error) {
	const head = 8 + 4 + 1
	if len(frame) < head || len(frame) < head+int(frame[head-1]) {
		return request{}, errors.New("a request that is cut short")
	}
	method, params := frame[head:head+int(frame[head-1])], frame[head+int(frame[head-1]):]
	r := request{
		ID: binary.BigEndian.Uint64(frame), TimeoutMS: binary.BigEndian.Uint32(frame[8:]),
		Method: string(method), Params: params,
	}
	if r.ID == 0 || r.Method == "" || r.TimeoutMS == 0 {
		return r, errors.New("a request needs an id, a method and a timeout")
	}
	return r, nil
}

func decodeResponse(frame []byte) (response, error) {
	const head = 8 + 1
	if len(frame) < head {
		return response{}, errors.New("a response that is cut short")
	}
	r := response{ID: binary.BigEndian.Uint64(frame)}
	switch kind, body := frame[head-1], frame[head:]; {
	case kind == kindError:
		r.Error = new(wireError)
		return r, decodeStrict(body, r.Error)
	case kind == kindResult && r.ID != 0:
		r.Result = body
		return r, nil
	default:
		return r, fmt.Errorf("a response %d of kind %q", r.ID, kind)
	}
}

func toWire(err error) *wireError {
	code := Internal
	var e *Error
	if errors.As(err, &e) {
		code = e.Code
	}
	return &wireError{Code: code, Class: key.ClassOf(err).String(), Message: err.Error()}
}

func (w *wireError) error() *Error {
	e := &Error{Code: w.Code, Message: w.Message} // Ambiguous, unless it says otherwise
	for _, c := range []key.Class{key.Retry, key.Refused, key.Fatal} {
		if w.Class == c.String() {
			e.class = c
		}
	}
	return e
}

// unexpected: the end of input inside a frame is no good end.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
