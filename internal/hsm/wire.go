package hsm

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/priority"
)

// The protocol consists of frames: a 4-byte big-endian length, 1 to maxFrame, followed by that many bytes. They are a
// short binary head and a body, which is JSON except for Opens. A connection carries one call at a time: a request,
// then its response, then the next request.

const maxFrame = 1 << 20

// request: 4 bytes timeout in milliseconds (big-endian), 8 bytes until (Unix time in milliseconds), 1 byte class, 1
// byte length of the method, the method, the parameters.
type request struct {
	Method string
	// TimeoutMS is how long the caller will wait. It is a duration and not a time, because clocks jump.
	TimeoutMS uint32
	// Until is until when, by the wall clock, a call that is an effect may begin; zero of other calls. Besides, it must
	// begin within the timeout after its arrival, by a clock that nobody can set.
	Until time.Time
	// Class is what the caller's work is for. It decides which call gets the next free session of the token.
	Class  priority.Class
	Params []byte
}

// response: 1 byte kind, 1 byte length of the digest, the digest of the configuration that the HSM side acts on, then
// the result, or the error as JSON. A long result comes in parts, each a frame of its own.
type response struct {
	// Config is the digest; "" while the HSM side has no valid configuration.
	Config string
	Result []byte
	More   bool // another part follows
	Error  *wireError
}

// The kinds of a response.
const (
	kindPart   = 'p'
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

type objectsResult struct {
	Objects []key.Object `json:"objects,omitempty"`
}

const partObjects = 200 // in one part of an answer, well under the frame's limit

// parts divides a long result.
func (r objectsResult) parts() (parts []any) {
	for part := range slices.Chunk(r.Objects, partObjects) {
		parts = append(parts, objectsResult{part})
	}
	return parts
}

type idsResult struct {
	IDs []key.ID `json:"ids"`
}

type mayGenerateParams struct {
	Key    string   `json:"key"`
	Number int      `json:"number"`
	Spec   key.Spec `json:"spec"`
}

type generateParams struct {
	ID     key.ID   `json:"id"`
	Key    string   `json:"key"`
	Number int      `json:"number"`
	Spec   key.Spec `json:"spec"`
	Known  key.ID   `json:"known,omitempty"` // a pair that must be on the token
}

type idParams struct {
	ID key.ID `json:"id"`
}

type publicKeyResult struct {
	Material key.Material `json:"material"`
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

// opensParams: 32 bytes id, 32 bytes SHA-256, the ciphertext. Every proof makes this call, and JSON with base64 would
// make up a good part of its cost.
type opensParams struct {
	ID         key.ID
	SHA256     [32]byte // of the expected plaintext
	Ciphertext []byte
}

const idLength = 32 // of a key.ID

func (p opensParams) MarshalBinary() ([]byte, error) {
	if len(p.ID) != idLength {
		return nil, fmt.Errorf("the id %q does not have %d characters", p.ID, idLength)
	}
	return slices.Concat([]byte(p.ID), p.SHA256[:], p.Ciphertext), nil
}

func (p *opensParams) UnmarshalBinary(b []byte) error {
	if len(b) < idLength+len(p.SHA256) {
		return fmt.Errorf("%d bytes are too few for an id and a SHA-256", len(b))
	}
	p.ID, b = key.ID(b[:idLength]), b[idLength:]
	p.Ciphertext = bytes.Clone(b[copy(p.SHA256[:], b):])
	return nil
}

// opensResult: one byte, 1 for yes or 0 for no.
type opensResult struct{ Opens bool }

func (r opensResult) MarshalBinary() ([]byte, error) {
	if r.Opens {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}

func (r *opensResult) UnmarshalBinary(b []byte) error {
	if len(b) != 1 || b[0] > 1 {
		return fmt.Errorf("%q is neither yes nor no", b)
	}
	r.Opens = b[0] == 1
	return nil
}

type extensionParams struct {
	chain.Extension
}

type checkpointResult struct {
	Checkpoint key.SignedCheckpoint `json:"checkpoint"`
	Missed     bool                 `json:"missed,omitempty"`
}

type empty struct{}

// readFrame reads one frame. io.EOF means that the peer closed the connection between two frames.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: the limit is %d", n, maxFrame)
	}
	body := make([]byte, n)
	if got, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("a frame of %d bytes ended after %d: %w", n, got, unexpected(err))
	}
	return body, nil
}

func (r request) encode() ([]byte, error) {
	if len(r.Method) > math.MaxUint8 {
		return nil, fmt.Errorf("a method of %d bytes", len(r.Method))
	}
	b := binary.BigEndian.AppendUint32(newFrame(len(r.Params)), r.TimeoutMS)
	until := uint64(0)
	if !r.Until.IsZero() {
		until = uint64(max(0, r.Until.UnixMilli()))
	}
	b = binary.BigEndian.AppendUint64(b, until)
	b = append(append(b, byte(r.Class), byte(len(r.Method))), r.Method...)
	return closeFrame(append(b, r.Params...))
}

func (r response) encode() ([]byte, error) {
	kind, body := byte(kindResult), r.Result
	if r.More {
		kind = kindPart
	}
	if r.Error != nil {
		var err error
		if body, err = json.Marshal(r.Error); err != nil {
			return nil, err
		}
		kind = kindError
	}
	if len(r.Config) > math.MaxUint8 {
		return nil, fmt.Errorf("a digest of %d bytes", len(r.Config))
	}
	b := append(append(newFrame(len(body)), kind, byte(len(r.Config))), r.Config...)
	return closeFrame(append(b, body...))
}

// newFrame returns a buffer with room for the length, which closeFrame fills in, and for a head and a body.
func newFrame(body int) []byte { return make([]byte, 4, 64+body) }

func closeFrame(b []byte) ([]byte, error) {
	n := len(b) - 4
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes: the limit is %d", n, maxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(n))
	return b, nil
}

// encodeBody encodes v in its own binary form if it has one, and as JSON otherwise.
func encodeBody(v any) ([]byte, error) {
	if b, ok := v.(encoding.BinaryMarshaler); ok {
		return b.MarshalBinary()
	}
	return json.Marshal(v)
}

// decodeBody reverses encodeBody. It decodes JSON strictly.
func decodeBody(data []byte, v any) error {
	if b, ok := v.(encoding.BinaryUnmarshaler); ok {
		return b.UnmarshalBinary(data)
	}
	return decodeStrict(data, v)
}

// decodeStrict decodes exactly one JSON value. It refuses unknown fields.
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

// requestHead is the length of what precedes a request's method.
const requestHead = 4 + 8 + 1 + 1

func decodeRequest(frame []byte) (request, error) {
	const head = requestHead
	if len(frame) < head || len(frame) < head+int(frame[head-1]) {
		return request{}, errors.New("the request is cut short")
	}
	method, params := frame[head:head+int(frame[head-1])], frame[head+int(frame[head-1]):]
	r := request{
		Method: string(method), TimeoutMS: binary.BigEndian.Uint32(frame), Class: priority.Class(frame[head-2]),
		Params: params,
	}
	if until := binary.BigEndian.Uint64(frame[4:]); until > 0 {
		r.Until = time.UnixMilli(int64(min(until, math.MaxInt64))).UTC()
	}
	if r.Method == "" || r.TimeoutMS == 0 || !slices.Contains(priority.All(), r.Class) {
		return r, errors.New("a request needs a method, a timeout and a class of work")
	}
	return r, nil
}

// responseHead is the length of what precedes a response's digest.
const responseHead = 1 + 1

func decodeResponse(frame []byte) (response, error) {
	const head = responseHead
	if len(frame) < head || len(frame) < head+int(frame[head-1]) {
		return response{}, errors.New("the response is cut short")
	}
	config, body := string(frame[head:head+int(frame[head-1])]), frame[head+int(frame[head-1]):]
	switch kind := frame[0]; kind {
	case kindError:
		r := response{Config: config, Error: new(wireError)}
		return r, decodeStrict(body, r.Error)
	case kindPart, kindResult:
		return response{Config: config, Result: body, More: kind == kindPart}, nil
	default:
		return response{}, fmt.Errorf("a response of kind %q", kind)
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
	e := &Error{Code: w.Code, Message: w.Message} // Ambiguous unless the answer has a class
	for _, c := range []key.Class{key.Retry, key.Refused, key.Fatal} {
		if w.Class == c.String() {
			e.class = c
		}
	}
	return e
}

// unexpected turns io.EOF into io.ErrUnexpectedEOF: input must not end inside a frame.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
