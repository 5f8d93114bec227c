package hsm

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A journal drops the lines of a service that writes too many. An attacker who had that happen could wrap unseen.
func TestInsiderCallsThatFailDoNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written bytes.Buffer
		s := &server{calls: &fakeCalls{}, permitted: unread, log: slog.New(slog.NewTextHandler(&written, nil))}
		calls := func(n int) {
			for range n {
				s.answer(t.Context(), request{Method: "Other", TimeoutMS: 1000})
			}
		}
		calls(50 * complaintsAtOnce)
		if lines := strings.Count(written.String(), "call failed"); lines != complaintsAtOnce {
			t.Errorf("%d lines, want %d", lines, complaintsAtOnce)
		}
		time.Sleep(complaintEvery)
		written.Reset()
		calls(2)
		if text := written.String(); strings.Count(text, "call failed") != 1 ||
			!strings.Contains(text, "not_logged_before=4900") {
			t.Errorf("after a pause: %s", text)
		}
	})
}
