package rotate

import (
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// views keeps the last observation of each key and the material already seen. It
// is a cache: losing it costs a look.
type views struct {
	mu    *sync.Mutex
	last  map[string]*Observation
	used  map[string]bool      // the last observation was acted on
	shown map[string]shown     // by url and version
	down  map[string]downVault // by url
	keks  map[string]time.Time // by url: when its KEK was begun, for whichever key
	more  map[string]*more     // by url and key
	empty map[string]time.Time // by url and key: since when the vault shows nothing of it
}

type downVault struct {
	err   error
	until time.Time
}

func newViews() views {
	return views{
		mu: new(sync.Mutex), last: map[string]*Observation{}, used: map[string]bool{}, shown: map[string]shown{},
		down: map[string]downVault{}, keks: map[string]time.Time{}, more: map[string]*more{}, empty: map[string]time.Time{},
	}
}

func (v *views) put(name string, o *Observation) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.last[name] = o
	delete(v.used, name)
}

func (v *views) use(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.used[name] = true
}

func (v *views) isUsed(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.used[name]
}

func (v *views) drop(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.last, name)
}

func (v *views) get(name string) *Observation {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last[name]
}

// downNow returns the error of a vault that did not answer a moment ago.
func (v *views) downNow(url string, now time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	// A moment that is further off was noted before the clock was put back.
	if d, ok := v.down[url]; ok && now.Before(d.until) && d.until.Sub(now) <= 2*lookTimeout {
		return d.err
	}
	return nil
}

func (v *views) putDown(url string, err error, until time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.down[url] = downVault{err, until}
}

// AskAgain has every vault asked that did not answer a moment ago, as after what kept keyd
// out of it was mended.
func (r *Rotator) AskAgain() {
	r.views.mu.Lock()
	defer r.views.mu.Unlock()
	clear(r.views.down)
}

// emptySince remembers since when a vault shows nothing of a key; zero when it does.
func (v *views) emptySince(url, name string, empty bool, now time.Time) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := url + "/" + name
	if !empty {
		delete(v.empty, at)
	} else if v.empty[at].IsZero() {
		v.empty[at] = now
	}
	return v.empty[at]
}

// beginKEK claims the making of a vault's KEK, unless it was claimed after since.
func (v *views) beginKEK(url string, now, since time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keks[url].After(since) {
		return false
	}
	v.keks[url] = now
	return true
}

// noteKEK remembers that the KEK was begun at a time, if that is the latest.
func (v *views) noteKEK(url string, at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keks[url] = later(v.keks[url], at)
}

func (v *views) endKEK(url string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.keks, url)
}

func (v *views) kekBegun(url string) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.keks[url]
}

// shown is what a vault showed of a version that the record does not know.
type shown struct {
	print      key.Fingerprint // never changes; "" when the vault would not show it
	operations []key.Operation // when it was shown
}

func (v *views) shownOf(url, version string) (shown, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s, ok := v.shown[url+"/"+version]
	return s, ok
}

func (v *views) putShown(url, version string, s shown) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.shown[url+"/"+version] = s
}
