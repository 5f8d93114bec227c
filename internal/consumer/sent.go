package consumer

import (
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/term"
	"github.com/keyd-project/keyd/internal/vault"
)

// sent remembers whether Resource Manager may have taken a call.
type sent struct{ maybe atomic.Bool }

// noting notes what becomes of calls that change something. It is the last to see a request: what waits for keyd's
// budget, or for a token, was not sent.
type noting struct{ next policy.Transporter }

// Do sends the request. A request that was throttled was not taken. A change never leaves after its deadline.
func (n noting) Do(r *http.Request) (*http.Response, error) {
	s := callOf(r.Context()).sent
	if s == nil {
		return n.next.Do(r)
	}
	if err := term.Check(r.Context()); err != nil {
		return nil, vault.Lasting(err)
	}
	term.Gate(r)
	before := s.maybe.Swap(true)
	resp, err := n.next.Do(r)
	if (err != nil && vault.NeverSent(err)) || (err == nil && resp.StatusCode == http.StatusTooManyRequests) {
		s.maybe.Store(before)
	}
	return resp, err
}
