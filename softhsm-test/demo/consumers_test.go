package main

import (
	"strings"
	"testing"
)

func TestTheServiceThatIsShownIsReadFromKeydsAnswer(t *testing.T) {
	const answer = `{"key": "demo-key", "list": [{"name": "orders", "generation": 1},
		{"service": "storage account", "name": "sadata", "uses": "aa", "generation": 2}]}`
	c, err := seenConsumer([]byte(answer), shownService)
	if want := (consumer{"storage account", "sadata", "aa", 2, ""}); err != nil || c != want {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := seenConsumer([]byte(`{"list": []}`), shownService); err == nil ||
		!strings.Contains(err.Error(), "does not show sadata") {
		t.Errorf("a service that keyd does not show: %v", err)
	}
}

func TestOnlyAVersionOfTheGenerationThatWasSealedIsOfIt(t *testing.T) {
	e := anEvidence(t)
	uses := e.uses(shownService)
	first := e.sealed[0]
	for _, c := range []struct {
		version    string
		generation int
		want       bool
	}{
		{first.version, 1, true}, {first.version, 2, false}, {strings.Repeat("0", 32), 3, true}, // not sealed yet
	} {
		if e.isOf(c.version, c.generation) != c.want {
			t.Errorf("version %s is of generation %d: %t", c.version, c.generation, !c.want)
		}
	}
	if uses == "" {
		t.Errorf("%s uses no version", shownService)
	}
	if ids := e.ids(); len(ids) != len(services) {
		t.Errorf("%d services have the ids %v", len(services), ids)
	}
}
