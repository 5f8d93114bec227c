package control

import (
	"errors"
	"testing"
)

func TestAnOperatorDoesNotAcceptAStoreThatLostChanges(t *testing.T) {
	f := newFake()
	c := &call{Server: &Server{backend: f}, actor: Actor{UID: 1000, Name: "anna"}}
	err := c.acceptStore(t.Context())
	if refused := new(RefusedError); !errors.As(err, &refused) || len(f.notes()) > 0 {
		t.Errorf("%v; the daemon did %v", err, f.notes())
	}
}
