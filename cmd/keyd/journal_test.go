package main

import (
	"log/slog"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
)

// sent is one entry as the journal received it.
type sent struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

// journalled returns what a logger with this handler sends.
func journalled(t *testing.T, level slog.Level, use func(*slog.Logger)) (entries []sent) {
	t.Helper()
	use(slog.New(&journalHandler{level: level, send: func(m string, p journal.Priority, f map[string]string) error {
		entries = append(entries, sent{m, p, f})
		return nil
	}}))
	return entries
}

func TestAnEntryHasEveryAttributeAsAField(t *testing.T) {
	got := journalled(t, slog.LevelInfo, func(log *slog.Logger) {
		log.With("KEY", "sa-cmk-key", "STEP", "import").
			With("VAULT", "weu").
			Warn("step failed", "error", "no answer", "failures", 2)
	})
	want := []sent{{
		`step failed KEY=sa-cmk-key STEP=import VAULT=weu error="no answer" failures=2`, journal.PriWarning,
		map[string]string{
			"KEY":      "sa-cmk-key",
			"STEP":     "import",
			"VAULT":    "weu",
			"ERROR":    "no answer",
			"FAILURES": "2",
		},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLevelsArePriorities(t *testing.T) {
	got := journalled(t, slog.LevelDebug, func(log *slog.Logger) {
		log.Debug("d")
		log.Info("i")
		log.Warn("w")
		log.Error("e")
	})
	want := []journal.Priority{journal.PriDebug, journal.PriInfo, journal.PriWarning, journal.PriErr}
	var priorities []journal.Priority
	for _, e := range got {
		priorities = append(priorities, e.Priority)
	}
	if diff := cmp.Diff(want, priorities); diff != "" {
		t.Error(diff)
	}
}

func TestRecordsBelowTheLevelAreNotSent(t *testing.T) {
	if got := journalled(t, slog.LevelWarn, func(log *slog.Logger) { log.Info("i") }); got != nil {
		t.Errorf("sent %v", got)
	}
}

func TestGroupsAndOddNamesMakeValidFields(t *testing.T) {
	got := journalled(t, slog.LevelInfo, func(log *slog.Logger) {
		log.WithGroup("hsm").With("slot-id", 3).Info("m", slog.Group("call", "name", "a\nb"))
		log.Info("m", "message", "other", "_9", 1)
	})
	want := []sent{
		{
			`m hsm.slot-id=3 hsm.call.name="a\nb"`,
			journal.PriInfo,
			map[string]string{"HSM_SLOT_ID": "3", "HSM_CALL_NAME": "a\nb"},
		},
		{`m message=other _9=1`, journal.PriInfo, map[string]string{"KEYD_MESSAGE": "other", "KEYD__9": "1"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
