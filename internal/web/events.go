package web

import (
	"net/http"
	"time"
)

const (
	// heartbeat keeps proxies from closing a quiet connection, and detects a dead one.
	heartbeat = 15 * time.Second
	// writeTime is the time limit for writing one message.
	writeTime = 10 * time.Second
)

// events is the stream of server-sent events (HTML standard, section 9.2) for the
// page's "Now". It ends when its reader leaves or lags behind, and when the server
// stops.
func (f *feed) events(w http.ResponseWriter, r *http.Request) {
	// A foreign page cannot read the stream, and must not use up its places either.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		text(w, http.StatusForbidden, "events are for keyd's own page")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	me, ok := f.join(time.Now())
	if !ok {
		w.Header().Set("Retry-After", "30")
		text(w, http.StatusServiceUnavailable, "too many readers follow the events already")
		return
	}
	defer f.leave(me)
	out := http.NewResponseController(w)
	// The server's limit is for ordinary answers; here each message has its own.
	send := func(message []byte) bool {
		if out.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return false
		}
		_, err := w.Write(message)
		return err == nil && out.Flush() == nil
	}
	quiet := time.NewTicker(heartbeat)
	defer quiet.Stop()
	for alive := send([]byte("retry: 5000\n\n")); alive; {
		select {
		case <-r.Context().Done():
			return
		case <-quiet.C:
			alive = send([]byte(":\n\n"))
		case message, open := <-me.messages:
			alive = open && send(message)
		}
	}
}
