package consumer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

const (
	// logPatience is how long keyd waits for one of its own calls to arrive in the log, and for a workspace that does
	// not answer, before it gives up that stretch of time. It covers a weekend.
	logPatience = 72 * time.Hour
	// logOverlap is how much of what it has already read keyd reads again each time, for rows that come late.
	logOverlap = time.Hour
	// longestQuiet is the longest time between two of keyd's own calls in the log over which keyd still takes the log
	// to be whole. Proofs come every few minutes by default.
	longestQuiet = 2 * time.Hour
	// logKept is the longest time that a workspace keeps a log for queries.
	logKept = 730 * 24 * time.Hour

	mostLogVersions = 1000 // of one key in a ledger
	mostLogCallers  = 200  // of one version

	ledgerSchema = 1
	// longestLedger bounds a ledger that is read, in bytes without compression.
	longestLedger = 256 << 20
)

// ledger is what keyd saw of one vault's log, and which of its own calls it still expects there.
type ledger struct {
	Schema    int    `json:"schema"`
	Workspace string `json:"workspace"`
	// Asked is the end of the time that keyd read.
	Asked time.Time `json:"asked,omitzero"`
	// From and Until bound the last stretch of time, up to Forgotten, in which the log had every call of keyd's.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Forgotten is when the last call was made that keyd no longer has in Calls.
	Forgotten time.Time `json:"forgotten,omitzero"`
	Calls     []ownCall `json:"calls,omitempty"` // in order of their beginning
	// Keys has what keyd saw of each key, by its name in lower case.
	Keys map[string]*keyUses `json:"keys,omitempty"`
}

// keyUses is what keyd saw of one key.
type keyUses struct {
	// Since is from when on keyd has read about the key; zero: it has not yet.
	Since time.Time `json:"since,omitzero"`
	// Uses has, by version, the uses of each caller but keyd.
	Uses map[string]map[string]span `json:"uses,omitempty"`
	// Worked has likewise those that the vault carried out, and that were not made under keyd's identity.
	Worked map[string]map[string]span `json:"worked,omitempty"`
}

// span is the first and the last time of something.
type span struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// with is the span once it happened at another time, too.
func (s span) with(t time.Time) span {
	if s.First.IsZero() || t.Before(s.First) {
		s.First = t
	}
	if t.After(s.Last) {
		s.Last = t
	}
	return s
}

// begin prepares the ledger for reading a workspace.
func (l *ledger) begin(workspace string) {
	if l.Workspace == workspace {
		return
	}
	// What another workspace showed says nothing of whether this one is whole.
	l.Workspace, l.Asked, l.From, l.Until = workspace, time.Time{}, time.Time{}, time.Time{}
	for i := range l.Calls {
		l.Calls[i].Seen = [2]time.Time{}
	}
}

// absorb adds calls that keyd made since.
func (l *ledger) absorb(calls []ownCall) {
	l.Calls = append(l.Calls, calls...)
	slices.SortStableFunc(l.Calls, func(a, b ownCall) int { return a.Begun.Compare(b.Begun) })
	if l.Asked.IsZero() && l.Forgotten.IsZero() && len(l.Calls) > 0 {
		l.Forgotten = l.Calls[0].Begun.Add(-key.MaxSkew) // no stretch begins before the first call that keyd knows
	}
}

// next is from when on keyd reads, up to end.
func (l *ledger) next(end time.Time) time.Time {
	earliest := end.Add(-logPatience)
	if l.Asked.IsZero() {
		return end.Add(-24 * time.Hour)
	}
	from := l.Asked
	if from.After(end) { // the clock was put back
		from = end
	}
	from = from.Add(-logOverlap)
	for i := range l.Calls {
		c := &l.Calls[i]
		if c.Must && !c.arrived() {
			if expected := c.Begun.Add(-key.MaxSkew); expected.Before(from) {
				from = expected
			}
			break
		}
	}
	if from.Before(earliest) {
		return earliest
	}
	return from
}

// track notes uses of these keys from now on, and of no others.
func (l *ledger) track(names []string) {
	keys := make(map[string]*keyUses, len(names))
	for _, name := range names {
		name = strings.ToLower(name)
		if keys[name] = l.Keys[name]; keys[name] == nil {
			keys[name] = &keyUses{}
		}
	}
	l.Keys = keys
}

// skip gives up the time before from, which keyd can no longer read.
func (l *ledger) skip(from time.Time) {
	if l.Asked.IsZero() || !from.After(l.Asked) {
		return
	}
	l.From, l.Until = time.Time{}, time.Time{}
	l.Calls = slices.DeleteFunc(l.Calls, func(c ownCall) bool {
		if !c.Begun.Before(from) {
			return false
		}
		l.forget(c)
		return true
	})
}

// forget notes that keyd no longer knows a call, so that it does not take a row of that time for another's.
func (l *ledger) forget(c ownCall) {
	if t := c.Ended.Add(key.MaxSkew); t.After(l.Forgotten) {
		l.Forgotten = t
	}
}

// read notes that keyd has read the log from one time to another.
func (l *ledger) read(from, to time.Time) {
	l.Asked = to
	for _, k := range l.Keys {
		if k.Since.IsZero() {
			k.Since = from
		}
	}
	l.settle()
}

// judge notes what a row of the log says: that one of keyd's own calls arrived, or that somebody used a key. me are the
// identities under which keyd calls the vault.
func (l *ledger) judge(r logRow, calls map[string]*ownCall, me map[string]bool) {
	for _, id := range r.requests {
		c := calls[id]
		if c != nil && (c.Caller == "" || me[c.Caller]) && c.is(r) {
			return
		}
	}
	if me[r.caller] && !r.at.After(l.Forgotten) {
		return // keyd judged it when it still knew its calls of then
	}
	if r.key != "" {
		l.Keys[r.key].use(r)
		if r.worked() && !me[r.caller] {
			l.Keys[r.key].work(r)
		}
		return
	}
	for _, uses := range l.Keys {
		uses.use(r)
	}
}

// byID finds keyd's own calls by their ids.
func (l *ledger) byID() map[string]*ownCall {
	calls := make(map[string]*ownCall, len(l.Calls))
	for i := range l.Calls {
		calls[l.Calls[i].ID] = &l.Calls[i]
	}
	return calls
}

// use notes a use by another. What does not fit counts for more than it is: another version as any, another caller as
// nobody known.
func (k *keyUses) use(r logRow) {
	if k == nil { // not a key of keyd's
		return
	}
	if k.Uses == nil {
		k.Uses = map[string]map[string]span{}
	}
	version := r.version
	if k.Uses[version] == nil && len(k.Uses) >= mostLogVersions {
		version = ""
	}
	if k.Uses[version] == nil {
		k.Uses[version] = map[string]span{}
	}
	callers, caller := k.Uses[version], r.caller
	if _, known := callers[caller]; !known && len(callers) >= mostLogCallers {
		caller = ""
	}
	callers[caller] = callers[caller].with(r.at)
}

// work notes a use that proves that its caller uses the version. What does not fit, it does not note.
func (k *keyUses) work(r logRow) {
	if k == nil {
		return
	}
	if _, noted := k.Uses[r.version][r.caller]; !noted {
		return
	}
	if k.Worked == nil {
		k.Worked = map[string]map[string]span{}
	}
	if k.Worked[r.version] == nil {
		k.Worked[r.version] = map[string]span{}
	}
	k.Worked[r.version][r.caller] = k.Worked[r.version][r.caller].with(r.at)
}

// stretch is the last stretch of time without a gap, as far as keyd has read, and how many of keyd's own calls are
// missing after its end, and the first of these.
func (l *ledger) stretch() (from, until time.Time, missing int, first ownCall) {
	s := stretch{l.From, l.Until}
	for _, c := range l.Calls {
		switch {
		case c.Ended.After(l.Asked.Add(-key.MaxSkew)): // not due yet
			return s.from, s.until, missing, first
		case c.Must && !c.arrived():
			if missing++; missing == 1 {
				first = c
			}
		case c.Must:
			missing = 0
		}
		s = s.after(c)
	}
	return s.from, s.until, missing, first
}

type stretch struct{ from, until time.Time }

// after is the stretch once a further call is known. One that did not arrive ends it, and so does a long pause.
func (s stretch) after(c ownCall) stretch {
	switch {
	case !c.Must:
		return s
	case !c.arrived():
		return stretch{}
	case s.until.IsZero() || c.Begun.Sub(s.until) > longestQuiet:
		return stretch{c.Begun, c.Begun}
	}
	return stretch{s.from, c.Begun}
}

// settle forgets calls that no later reading can say anything about.
func (l *ledger) settle() {
	kept := l.Asked.Add(-logOverlap - longestQuiet)
	n := 0
	s := stretch{l.From, l.Until}
	for _, c := range l.Calls {
		waits := c.Must && !c.arrived() && c.Begun.After(l.Asked.Add(-logPatience))
		if len(l.Calls)-n <= mostOwnCalls && (waits || c.Begun.After(kept)) {
			break
		}
		s = s.after(c)
		l.forget(c)
		n++
	}
	l.From, l.Until, l.Calls = s.from, s.until, slices.Delete(l.Calls, 0, n)
}

// past refuses a ledger that knows what is still to come: keyd writes none. Whoever forged one could otherwise hide a
// use by keyd's stolen identity for all time, and not only until now.
func (l *ledger) past(now time.Time) error {
	times := []time.Time{l.Asked, l.From, l.Until, l.Forgotten}
	for _, c := range l.Calls {
		times = append(times, c.Ended)
	}
	latest := slices.MaxFunc(times, time.Time.Compare)
	if latest.After(now.Add(2 * key.MaxSkew)) { // Forgotten and the clock may each be ahead by one
		return fmt.Errorf("it has the time %s, which is in the future", latest.Format(time.RFC3339))
	}
	return nil
}

// encode is the ledger as the store keeps it.
func (l *ledger) encode() ([]byte, error) {
	var blob bytes.Buffer
	w := gzip.NewWriter(&blob)
	if err := errors.Join(json.NewEncoder(w).Encode(l), w.Close()); err != nil {
		return nil, err
	}
	return blob.Bytes(), nil
}

// decodeLedger reads what encode wrote; an empty ledger for nothing.
func decodeLedger(blob []byte) (*ledger, error) {
	l := &ledger{Schema: ledgerSchema}
	if blob == nil {
		return l, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(io.LimitReader(r, longestLedger)).Decode(l); err != nil {
		return nil, err
	}
	if l.Schema != ledgerSchema {
		return nil, fmt.Errorf("it has schema %d and this keyd knows %d", l.Schema, ledgerSchema)
	}
	return l, nil
}
