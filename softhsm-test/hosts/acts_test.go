package main

import (
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/emulator"
)

// An act that a host repeats after the one that was killed shows in the audit chain, or in what Azure did.
func TestAnActThatDidNotHappenOnceIsFound(t *testing.T) {
	result := func(id string) control.AuditEntry {
		return control.AuditEntry{Entry: chain.Entry{Event: chain.Repointed, Fields: map[string]string{"consumer": id}}}
	}
	call := func(id string) emulator.RequestLog {
		return emulator.RequestLog{Method: "PATCH", Path: id}
	}
	type results []control.AuditEntry
	type calls []emulator.RequestLog
	for name, c := range map[string]struct {
		results results
		calls   calls
		well    bool
	}{
		"once":                       {results{result("1")}, calls{call("1")}, true},
		"once to each of two":        {results{result("1"), result("2")}, calls{call("1"), call("2")}, true},
		"told twice":                 {results{result("1"), result("1")}, calls{call("1")}, false},
		"done twice":                 {results{result("1")}, calls{call("1"), call("1")}, false},
		"told, and not done":         {results{result("1")}, nil, false},
		"done, and told by no entry": {nil, calls{call("1")}, false},
	} {
		if err := moving.happenedOnce(c.results, c.calls); (err == nil) != c.well {
			t.Errorf("%s: %v", name, err)
		}
	}
	promoted := func(id string) control.AuditEntry {
		return control.AuditEntry{Entry: chain.Entry{Event: chain.SparePromoted, Fields: map[string]string{"id": id}}}
	}
	err := promoting.happenedOnce(results{promoted("1"), promoted("2")}, calls{call("1")})
	if err == nil {
		t.Error("two spares were promoted, and that is not found")
	}
}
