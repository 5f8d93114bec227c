package record

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// BeginKEK notes that keyd begins to make a vault's key exchange key.
func (r *Record) BeginKEK(url string, at time.Time) {
	if r.KEKBegun == nil {
		r.KEKBegun = map[string]time.Time{}
	}
	r.KEKBegun[url] = at
	delete(r.KEKMade, url)
}

// MadeKEK notes what came of it.
func (r *Record) MadeKEK(url string, print key.Fingerprint) {
	if r.KEKMade == nil {
		r.KEKMade = map[string]key.Fingerprint{}
	}
	r.KEKMade[url] = print
}
