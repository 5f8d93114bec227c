package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

func TestAHealthyIdleDaemonLogsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *settings) {
		s.vaults, s.schedule = []string{"weu", "mhsm"}, "@every 8760h"
		s.look, s.newest = time.Second, time.Second // a working day's looks and proofs, in seconds
	})
	w.start()
	w.waitGeneration(1)
	w.wait("the key is well and proven", func(s status.Snapshot, k status.Key) bool {
		return strings.Contains(w.daemon.log.String(), "ready: keyd has looked at every vault") && s.Ready &&
			k.State == status.StateOK && len(k.Proofs) == 2 && !k.Proofs[0].PassedAt.IsZero()
	})
	w.wait("both imports and the rotation's end are signed", func(status.Snapshot, status.Key) bool {
		return strings.Count(w.daemon.log.String(), "checkpoint of the audit chain") == 3
	})
	before := w.daemon.log.String()
	looks, proofs := w.requests("list"), w.requests("unwrap")
	w.wait("it has looked and proven often", func(status.Snapshot, status.Key) bool {
		return w.requests("list") > looks+10 && w.requests("unwrap") > proofs+10
	})
	if after := w.daemon.log.String(); after != before {
		t.Errorf("an idle daemon logged:\n%s", strings.TrimPrefix(after, before))
	}
}

// requests counts the calls of one operation that Azure answered.
func (w *world) requests(operation string) (n int) {
	for _, r := range w.emu.Requests() {
		if r.Operation == operation && r.Status == 200 {
			n++
		}
	}
	return n
}
