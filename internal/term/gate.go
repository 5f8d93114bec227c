package term

import (
	"context"
	"io"
	"net/http"
)

// Gate keeps a request that is an effect from leaving whole after its deadline, however long it waited before: for a
// connection, for a proxy, or because the process stood still. Check is asked when the body's first byte is written to
// the connection, and again before its last one. The context of the request has the effect. A request without a body
// must be checked before it is sent.
func Gate(r *http.Request) {
	ctx := r.Context()
	if effectOf(ctx) == nil || r.Body == nil || r.Body == http.NoBody || r.ContentLength <= 0 {
		return
	}
	r.Body = &gated{r.Body, ctx, r.ContentLength, true}
	if again := r.GetBody; again != nil { // net/http begins anew on another connection
		size := r.ContentLength
		r.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			if err != nil {
				return nil, err
			}
			return &gated{body, ctx, size, true}, nil
		}
	}
}

// gated is the body of a request. Whoever reads it is about to write what was read.
type gated struct {
	io.ReadCloser
	ctx   context.Context
	left  int64
	first bool
}

// Read gives the last byte alone. Once that was given, the request may have left whole, and nothing is refused.
func (g *gated) Read(p []byte) (int, error) {
	if g.left > 0 && len(p) > 0 {
		if g.first || g.left == 1 {
			if err := Check(g.ctx); err != nil {
				return 0, err
			}
		}
		g.first = false
		p = p[:min(int64(len(p)), max(1, g.left-1))]
	}
	n, err := g.ReadCloser.Read(p)
	g.left -= int64(n)
	return n, err
}
