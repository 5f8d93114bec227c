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
	"github.com/keyd-project/keyd/internal/words"
)

const (
	// maxReaders is how many readers may follow the events at once.
	maxReaders = 32
	// readerBuffer is how many messages a reader may lag behind before it is dropped.
	readerBuffer = 64
	// maxWorks is how many rotations the feed remembers; it drops the ones idle
	// longest.
	maxWorks = 64
	// maxSteps is how many steps of one rotation the feed remembers; it drops the
	// oldest.
	maxSteps = 40
	// restTime is how long a rotation stays visible after its last event.
	restTime = 15 * time.Minute
)

// The marks of a step and of a work item.
const (
	markDoing   = "doing"
	markDone    = "done"
	markFailed  = "failed"
	markWaiting = "waiting"
	markHeld    = "held"
)

// work is the loop's latest work on one key, as the page shows it: usually the steps of one generation.
type work struct {
	Key   string `json:"key"`
	Title string `json:"title"`
	Mark  string `json:"mark"`
	// Summary is all of a finished work in a line; "" while it is under way.
	Summary string `json:"summary,omitempty"`
	// Steps, the oldest first. A retried step is there once.
	Steps []workStep `json:"steps"`
	At    time.Time  `json:"at"` // of its last event

	generation int       // 0: not of one
	begun      time.Time // the time of its first event
}

type workStep struct {
	ID    string    `json:"id"`
	Words string    `json:"words"`
	Mark  string    `json:"mark"`
	Took  string    `json:"took,omitempty"`
	Note  string    `json:"note,omitempty"` // the error, or what it waits for
	At    time.Time `json:"at"`
}

// vaultsWork is the title of work that is for no key.
const vaultsWork = "Key exchange keys"

// feed turns the loop's events into works, keeps the latest, and passes each change to
// its readers. It never waits for a reader.
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

// run follows the events until they end, and then disconnects every reader.
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

// join adds a reader, who first gets the recent works. ok is false if there are too many
// readers or the feed has ended.
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

// current returns the works with a step under way or a recent event: the unfinished first,
// then the latest first. A rotation may stop without an event, for example when its key is
// paused.
func (f *feed) current(s status.Snapshot) []work {
	busy := map[string]bool{}
	for _, name := range s.Summary.UnderWay {
		busy[name] = true
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

// recent reports whether a work had an event recently.
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

// workOf finds the work of an event and moves it to the end.
func (f *feed) workOf(e status.Event) *work {
	if i := slices.IndexFunc(f.works, func(w *work) bool { return w.Key == e.Key }); i >= 0 {
		w := f.works[i]
		f.works = append(slices.Delete(f.works, i, i+1), w)
		return w
	}
	w := &work{Key: e.Key, Title: cmp.Or(e.Key, vaultsWork)}
	if len(f.works) >= maxWorks {
		f.works = slices.Delete(f.works, 0, 1)
	}
	f.works = append(f.works, w)
	return w
}

// add updates a work with an event.
func (w *work) add(e status.Event) {
	s := stepOf(e)
	another := e.Generation != w.generation && (e.Generation > 0 || w.Mark == markDone)
	if w.begun.IsZero() || another || e.Step == "promote" { // a spare was made some other day
		w.generation, w.Title, w.Steps = e.Generation, cmp.Or(e.Key, vaultsWork), nil
		w.begun = e.At.Add(-e.Elapsed.Duration())
		if e.Generation > 0 {
			w.Title = fmt.Sprintf("%s, generation %d", e.Key, e.Generation)
		}
	}
	w.At, w.Mark = e.At, s.Mark
	if s.Mark == markDone && e.Step != "finish" && e.Generation > 0 {
		w.Mark = markDoing // another step follows
	}
	defer w.summarise()
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

// summarise says of a finished work when it ended, and what it took.
func (w *work) summarise() {
	w.Summary = ""
	if w.Mark == markDone {
		w.Summary = fmt.Sprintf("done at %s: %s in %s", clock(w.At, w.At), words.Count(len(w.Steps), "step"),
			brief(w.At.Sub(w.begun)))
	}
}

// stepOf describes an event in words. It omits the reason of a begun or finished step,
// which may be an operator's text.
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
		s.Took = brief(e.Elapsed.Duration())
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
