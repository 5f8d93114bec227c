package main

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/status"
)

func TestAdoptDoesNotCallAWaitingAdoptionDone(t *testing.T) {
	var b strings.Builder
	writeAdoption(
		&b,
		style{},
		status.Adoption{
			Key:         "sa-cmk-key",
			Open:        1,
			Unknown:     []string{"vault weu does not show version 1"},
			Consequence: "nothing yet",
		},
	)
	if got := b.String(); !strings.Contains(got, "nothing to adopt yet") ||
		!strings.Contains(got, "does not show version 1") {
		t.Errorf("%s", got)
	}
}
