package rotate_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
)

// wiretap keeps what the HSM side wraps.
type wiretap struct {
	rotate.HSM
	wrapped [][]byte
}

func (w *wiretap) WrapFor(ctx context.Context, id key.ID, kek key.KEK) ([]byte, error) {
	ciphertext, err := w.HSM.WrapFor(ctx, id, kek)
	w.wrapped = append(w.wrapped, ciphertext)
	return ciphertext, err
}

// Who had a transfer blob and the key exchange key could read the private key. So blobs are in memory only.
func TestATransferBlobIsNeitherInTheRecordNorInTheChain(t *testing.T) {
	w := newWorld(t, 1, weu, mhsm)
	p := policy(weu, mhsm)
	r := w.rotator()
	tap := &wiretap{HSM: r.HSM}
	r.HSM = tap
	w.steps(r, p, 40, 5*time.Second)
	rec := w.record(p.Key)
	if g := rec.Latest(); g == nil || g.Finished.IsZero() || len(tap.wrapped) != 2 {
		t.Fatalf("not rotated: %d wraps\n%s", len(tap.wrapped), w.story())
	}
	stored, err := json.Marshal([]any{w.store.records, w.store.vaults, w.store.entries})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range tap.wrapped {
		part := c[:48] // a multiple of 3, so base64 of the whole begins with that of the part
		for _, form := range []string{
			base64.StdEncoding.EncodeToString(part), base64.RawURLEncoding.EncodeToString(part),
			hex.EncodeToString(part),
		} {
			if strings.Contains(string(stored), form) {
				t.Errorf("the store has a transfer blob: %s…", form)
			}
		}
	}
}
