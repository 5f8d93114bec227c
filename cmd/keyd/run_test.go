package main

import (
	"context"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/config"
)

func TestLogFormat(t *testing.T) {
	for _, test := range []struct {
		format string
		person bool
		want   string
	}{
		{"auto", true, "msg=hello"},
		{"auto", false, `"msg":"hello"`},
		{"text", false, "msg=hello"},
		{"json", true, `"msg":"hello"`},
	} {
		var out strings.Builder
		log := newLogger(&out, config.Log{Format: test.format, Level: slog.LevelInfo}, test.person)
		log.Debug("quiet")
		log.Info("hello")
		if got := out.String(); !strings.Contains(got, test.want) || strings.Contains(got, "quiet") {
			t.Errorf("%s, read by a person %v: %s", test.format, test.person, got)
		}
	}
}

func TestHangupRequestsAReload(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reload := onHangup(ctx)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reload:
	case <-time.After(terminalLimit):
		t.Error("no reload was requested")
	}
}
