package severalhosts

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
)

// alone is what the reader's configuration has already.
const alone = `instance: hq-1
state_dir: /var/lib/keyd
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
`

// leads has a host take the lease, save an entry under it and release it.
func leads(t *testing.T, e stored.Engine) {
	t.Helper()
	lease, err := e.Take(t.Context(), "hq-a", [16]byte{1}, time.Minute)
	must(t, err)
	tip, err := e.Tip(t.Context())
	must(t, err)
	l, err := chain.Append(tip.Seq, tip.Hash, chain.Entry{Time: time.Unix(1, 0), Event: "noted", Actor: "test"}, "")
	must(t, err)
	must(t, e.Commit(t.Context(), stored.Change{Tip: tip, Epoch: &lease.Epoch, Entries: []chain.Linked{l}}))
	must(t, e.PutBlob(t.Context(), stored.Blob{Name: "host/hq-a", Value: []byte("well"), Epoch: &lease.Epoch}))
	must(t, e.Release(t.Context(), lease.Epoch))
}

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want an error that says %q", what, err, want)
	}
}
