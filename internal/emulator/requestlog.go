package emulator

import (
	"sync/atomic"
	"time"
)

// requestsKept is more than any test reads, and small enough for a process that runs for weeks.
const requestsKept = 1 << 16

// RequestLog is one request that reached the emulator, challenges included.
type RequestLog struct {
	Time      time.Time
	Method    string
	Host      string
	Path      string // without the query
	Operation string // as in Rule.Operation; "" if the path means nothing
	Key       string
	Status    int           // 0: the connection was closed without an answer
	Done      int           // the status of what was done, though its answer was lost; 0: nothing was done
	Delay     time.Duration // how long a rule delayed it
	Caller    string        // client id of the token; "": there was none
	Query     string        // of the URL
	Agent     string        // User-Agent
	// ClientRequestID is the header x-ms-client-request-id.
	ClientRequestID string
}

// requestLog keeps the last requests. Calls that are recorded at the same time do not
// wait for each other.
type requestLog struct {
	count atomic.Uint64
	slots []atomic.Pointer[numberedRequest]
}

type numberedRequest struct {
	number uint64
	RequestLog
}

func newRequestLog(size int) *requestLog {
	return &requestLog{slots: make([]atomic.Pointer[numberedRequest], size)}
}

func (l *requestLog) add(r RequestLog) {
	n := l.count.Add(1) - 1
	l.slots[n%uint64(len(l.slots))].Store(&numberedRequest{n, r})
}

// each calls f for each request with its number, except those that are being written.
func (l *requestLog) each(f func(number uint64, r RequestLog)) {
	end := l.count.Load()
	for n := end - min(end, uint64(len(l.slots))); n < end; n++ {
		if r := l.slots[n%uint64(len(l.slots))].Load(); r != nil && r.number == n {
			f(n, r.RequestLog)
		}
	}
}

// all omits entries that are being written: an older request may still be in their
// place.
func (l *requestLog) all() []RequestLog {
	end := l.count.Load()
	begin := end - min(end, uint64(len(l.slots)))
	kept := make([]RequestLog, 0, end-begin)
	for n := begin; n < end; n++ {
		if r := l.slots[n%uint64(len(l.slots))].Load(); r != nil && r.number == n {
			kept = append(kept, r.RequestLog)
		}
	}
	return kept
}

// since returns the requests from the n-th on, counted from 0, up to the first that is still being written, and the
// number of the next. Requests that were overwritten are missing.
func (l *requestLog) since(n uint64) (kept []RequestLog, next uint64) {
	end := l.count.Load()
	for n = max(n, end-min(end, uint64(len(l.slots)))); n < end; n++ {
		r := l.slots[n%uint64(len(l.slots))].Load()
		if r == nil || r.number < n {
			break
		}
		if r.number == n {
			kept = append(kept, r.RequestLog)
		}
	}
	return kept, n
}
