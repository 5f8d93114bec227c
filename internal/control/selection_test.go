package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/status"
)

func TestTheDaemonIsAskedForTheSelectedKeysOnly(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	long := slices.Repeat([]string{strings.Repeat("a", 127)}, maxOnly)
	for _, sel := range []status.Selection{{}, {Few: true}, {Only: []string{"a", "b"}, Brief: true}, {Only: long},
		{Labels: []string{"prod", "eu"}, Vault: "weu", Troubled: true}} {
		if _, err := c.Snapshot(t.Context(), sel); err != nil || !cmp.Equal(f.selected, sel) {
			t.Errorf("%+v: the daemon was asked for %+v (%v)", sel, f.selected, err)
		}
	}
}

func TestMoreNamesThanFitIntoARequestAreEveryKey(t *testing.T) {
	f := newFake()
	c := Dial(serve(t, f, everyone))
	var names []string
	for i := range maxOnly + 1 {
		names = append(names, fmt.Sprintf("key-%d", i))
	}
	_, err := c.Snapshot(t.Context(), status.Selection{Only: names})
	if err != nil || !cmp.Equal(f.selected, status.Selection{}) {
		t.Errorf("the daemon was asked for %+v (%v)", f.selected, err)
	}
}

func TestASnapshotOfWhatCannotBeANameIsRefused(t *testing.T) {
	c := Dial(serve(t, newFake(), everyone))
	var usage *UsageError
	if _, err := c.Snapshot(t.Context(), status.Selection{Only: []string{"a b"}}); !errors.As(err, &usage) {
		t.Errorf("%v, want a usage error", err)
	}
}
