package vault

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// OwnCall is one try of a call that uses a key, as keyd made it: what the vault's audit log may show of keyd itself.
type OwnCall struct {
	// ID is the x-ms-client-request-id that keyd drew for this try; the vault's log has it as CorrelationId.
	ID        string
	Operation string // as the log names it: "KeyWrap"
	Key       string
	Version   string
	// Caller is the object id in the token, as the log names the caller; "" for a try without a token, which only asks
	// for the sign-in challenge.
	Caller       string
	Begun, Ended time.Time // by the local clock
	Status       int       // of the answer; 0: none came
}

// Calls hears of keyd's own calls that use a key, each try once, when it has ended.
type Calls interface {
	Called(vaultURL string, c OwnCall)
}

const clientRequestID = "x-ms-client-request-id"

// callPolicy gives each try of a call that the vault's log calls a use a fresh id, and tells Calls of it. The SDK sets
// no id of its own. Each try has another one, so that each entry in the log is one try.
type callPolicy struct {
	vault string // URL
	calls Calls
	now   func() time.Time
}

func (p callPolicy) Do(req *policy.Request) (*http.Response, error) {
	k := callOf(req.Raw().Context())
	if p.calls == nil || k.op.logged == "" {
		return req.Next()
	}
	own := OwnCall{ID: newRequestID(), Operation: k.op.logged, Key: k.key, Version: k.version, Begun: p.now()}
	if token, ok := strings.CutPrefix(req.Raw().Header.Get("Authorization"), "Bearer "); ok {
		own.Caller = identityIn(token).ObjectID
	}
	req.Raw().Header.Set(clientRequestID, own.ID)
	resp, err := req.Next()
	own.Ended = p.now()
	if err == nil {
		own.Status = resp.StatusCode
	}
	p.calls.Called(p.vault, own)
	return resp, err
}

// newRequestID is a random UUID (RFC 9562 section 5.4): the log keeps only ids of that form.
func newRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
