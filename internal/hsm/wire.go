package hsm

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keyd-project/keyd/internal/key"
)

// The protocol: frames of a 4-byte big-endian length, 1 to maxFrame, and that
// many bytes of JSON. Requests and responses are matched by id, in any order.
// A response with id 0 is the last word of a process that ends, and why.

const maxFrame = 1 << 20

type request struct {
	ID     uint64 `json:"id"`
	Method string `json:"method"`
	// TimeoutMS is how long the caller still waits, in milliseconds. It is a
	// duration, because clocks jump.
	TimeoutMS int64           `json:"timeout_ms"`
	Params    json.RawMessage `json:"params,omitempty"`
}

type response struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *wireError      `json:"error,omitempty"`
}

type wireError struct {
	Code    Code   `json:"code"`
	Class   string `json:"class"`
	Message string `json:"message"`
}

// description is the answer of Describe.
type description struct {
	key.HSMInfo
	PINRefused bool `json:"pin_refused,omitempty"`
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

// encodeFrame makes one frame of v.
func encodeFrame(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: the limit is %d", len(body), maxFrame)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...), nil
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
	var r request
	if err := decodeStrict(frame, &r); err != nil {
		return r, err
	}
	if r.ID == 0 || r.Method == "" || r.TimeoutMS <= 0 {
		return r, errors.New("a request needs an id, a method and a timeout")
	}
	return r, nil
}

func decodeResponse(frame []byte) (response, error) {
	var r response
	if err := decodeStrict(frame, &r); err != nil {
		return r, err
	}
	if (r.Error == nil) == (r.Result == nil) || (r.ID == 0 && r.Error == nil) {
		return r, errors.New("a response needs a result or an error")
	}
	return r, nil
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
