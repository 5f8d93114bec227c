package hsm

import (
	"bytes"
	"context"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/priority"
)

func FuzzRequest(f *testing.F) {
	for method, params := range map[string]string{
		"Describe": ``,
		"Opens":    "00112233445566778899aabbccddeeff" + strings.Repeat("s", 32) + "ciphertext",
		"WrapFor": `{"id":"00112233445566778899aabbccddeeff","kek":{"vault":"v","kid":"k","material":"` +
			wireKey(f, big.NewInt(5), 3) + `"}}`,
	} {
		seed, err := request{Method: method, TimeoutMS: 1, Params: []byte(params)}.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			body, err := readFrame(r)
			if err != nil {
				return
			}
			if len(body) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(body))
			}
			req, err := decodeRequest(body)
			if err != nil {
				return
			}
			result, err := dispatch(context.Background(), &fakeCalls{}, req.Method, req.Params)
			if err == nil {
				if _, err := encodeBody(result); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add([]byte("r\x00{}"))
	f.Add([]byte("r\x02ab{}"))
	f.Add([]byte("e\x00" + `{"code":"hung","class":"retry","message":"m"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		resp, err := decodeResponse(data)
		if err == nil && (resp.Error == nil) == (resp.Result == nil) {
			t.Fatal("neither or both")
		}
	})
}

func TestARequestAndAResponseArriveAsSent(t *testing.T) {
	sent := request{Method: "Opens", TimeoutMS: 20000, Until: time.Date(2026, 11, 30, 10, 0, 0, 5e6, time.UTC),
		Class: priority.Proof, Params: []byte(`{"id":"x"}`)}
	frame, err := sent.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRequest(frame[4:]); err != nil || !cmp.Equal(got, sent) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, sent := range []response{
		{Result: []byte(`{}`)},
		{Result: []byte(`{}`), More: true, Config: "sha256:ab"},
		{Error: &wireError{Code: Hung, Class: "retry", Message: "the end"}},
	} {
		frame, err := sent.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeResponse(frame[4:]); err != nil || !cmp.Equal(got, sent) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if _, err := (response{Result: make([]byte, maxFrame)}).encode(); err == nil {
		t.Error("a frame over the limit was made")
	}
}
