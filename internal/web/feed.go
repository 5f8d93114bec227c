package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

const (
	// maxReaders is how many may follow the events at once.
	maxReaders = 32
	// readerBuffer is how many messages a reader may lag behind before it is dropped.
	readerBuffer = 64
	// maxWorks is how many rotations are remembered; the ones that rested longest go.
	maxWorks = 64
	// maxSteps is how many steps of one are remembered; the oldest go.
	maxSteps = 40
	// restTime is how long a rotation is shown after the last that was heard of it.
	restTime = 15 * time.Minute
)

// The marks of a step and of a work.
const (
	markDoing   = "doing"
	markDone    = "done"
	markFailed  = "failed"
	markWaiting = "waiting"
	markHeld    = "held"
)

// work is what the loop did last for one key, as the page tells it: as a rule the steps of
// one generation.
type work struct {
	Key   string `json:"key"`
	Title string `json:"title"`
	Mark  string `json:"mark"`
	// Steps, the oldest first. A step that is tried again is there once.
	Steps []workStep `json:"steps"`
	At    time.Time  `json:"at"` // of its last event

	generation int // 0: not of one
}

type workStep struct {
	ID    string    `json:"id"`
	Words string    `json:"words"`
	Mark  string    `json:"mark"`
	Took  string    `json:"took,omitempty"`
	Note  string    `json:"note,omitempty"` // the error, or what it waits for
	At    time.Time `json:"at"`
}

// feed turns the loop's events into works, keeps the latest, and hands each change
// to its readers. It never waits for one.
type feed struct {
	mu      sync.Mutex
	works   []*work // the one that changed last is the last
	readers map[*reader]bool
	closed  bool
}

// reader is one page that follows. Its channel is closed when it lags behind, or
// when the feed ends.
type reader struct{ messages chan []byte }

func newFeed() *feed { return &feed{readers: map[*reader]bool{}} }

// run follows the events until they end, and then lets every reader go.
func (f *feed) run(events <-chan status.Event) {
	for e := range events {
		f.apply(e)
	}
	f.close()
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for r := range f.readers {
		f.drop(r)
	}
}

// join adds a reader, who first gets what happened lately; ok is false when there are too
// many, or the feed has ended.
func (f *feed) join(now time.Time) (r *reader, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.readers) >= maxReaders {
		return nil, false
	}
	r = &reader{make(chan []byte, maxWorks+readerBuffer)}
	for _, w := range f.works {
		if w.recent(now) {
			r.messages <- message(w)
		}
	}
	f.readers[r] = true
	return r, true
}

func (f *feed) leave(r *reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(r)
}

// drop is called with the lock held.
func (f *feed) drop(r *reader) {
	if f.readers[r] {
		delete(f.readers, r)
		close(r.messages)
	}
}

// current is every work that a step is under way for or that was heard of lately, those that
// have not ended first and then the latest first. A rotation may stop without an event of its
// own, as when its key is paused.
func (f *feed) current(s status.Snapshot) []work {
	busy := map[string]bool{}
	for _, k := range s.Keys {
		busy[k.Name] = k.Doing != ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []work
	for _, w := range slices.Backward(f.works) {
		if w.recent(s.At) || busy[w.Key] {
			c := *w
			c.Steps = slices.Clone(w.Steps)
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b work) int { return cmp.Compare(rest(a), rest(b)) })
	return out
}

// recent reports whether a work was heard of lately.
func (w *work) recent(now time.Time) bool { return now.Sub(w.At) < restTime }

func rest(w work) int {
	if w.Mark == markDone {
		return 1
	}
	return 0
}

func (f *feed) apply(e status.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.workOf(e)
	w.add(e)
	m := message(w)
	for r := range f.readers {
		select {
		case r.messages <- m:
		default:
			f.drop(r)
		}
	}
}

// workOf finds the work of an event and makes it the last.
func (f *feed) workOf(e status.Event) *work {
	if i := slices.IndexFunc(f.works, func(w *work) bool { return w.Key == e.Key }); i >= 0 {
		w := f.works[i]
		f.works = append(slices.Delete(f.works, i, i+1), w)
		return w
	}
	w := &work{Key: e.Key, Title: e.Key}
	if len(f.works) >= maxWorks {
		f.works = slices.Delete(f.works, 0, 1)
	}
	f.works = append(f.works, w)
	return w
}

// add brings a work up to an event.
func (w *work) add(e status.Event) {
	s := stepOf(e)
	if e.Generation != w.generation && (e.Generation > 0 || w.Mark == markDone) {
		w.generation, w.Title, w.Steps = e.Generation, e.Key, nil
		if e.Generation > 0 {
			w.Title = fmt.Sprintf("%s, generation %d", e.Key, e.Generation)
		}
	}
	w.At, w.Mark = e.At, s.Mark
	if s.Mark == markDone && e.Step != "finish" && e.Generation > 0 {
		w.Mark = markDoing // another step follows
	}
	i := slices.IndexFunc(w.Steps, func(o workStep) bool { return o.ID == s.ID })
	switch {
	case i >= 0 && s.Mark == markWaiting && w.Steps[i].Note == s.Note:
		return // it goes on waiting
	case i >= 0:
		w.Steps[i] = s
	default:
		w.Steps = append(w.Steps, s)
	}
	if s.Mark != markWaiting { // and so waits no longer
		w.Steps = slices.DeleteFunc(w.Steps, func(o workStep) bool { return o.Mark == markWaiting })
	}
	if n := len(w.Steps) - maxSteps; n > 0 {
		w.Steps = slices.Delete(w.Steps, 0, n)
	}
}

// stepOf tells an event in words. A begun or finished step's own reason is left out:
// it may be what an operator wrote.
func stepOf(e status.Event) workStep {
	s := workStep{ID: e.Step + "@" + e.Vault, Words: stepWords(e), At: e.At, Note: e.Error}
	switch e.Phase {
	case status.Done:
		s.Mark = markDone
	case status.Failed:
		s.Mark = markFailed
	case status.Wait:
		s.ID, s.Mark, s.Note = "wait", markWaiting, e.Detail
	default:
		s.Mark = markDoing
	}
	if e.Step == "hold" && s.Mark == markDone {
		s.Mark = markHeld
	}
	if e.Elapsed > 0 {
		s.Took = brief(e.Elapsed)
	}
	return s
}

// message is one server-sent event (HTML standard, section 9.2.5): JSON has no line
// breaks of its own.
func message(w *work) []byte {
	body, err := json.Marshal(w)
	if err != nil { // strings and times only
		return []byte(": " + strconv.Quote(err.Error()) + "\n\n")
	}
	return fmt.Appendf(nil, "event: work\ndata: %s\n\n", body)
}
