package rotate_test

import (
	"testing"

	"github.com/keyd-project/keyd/internal/key"
)

// on is a person at one of several hosts.
func on(host string, uid uint32, login string, names ...string) key.Person {
	return key.Person{Actor: login + " on " + host, UID: uid, Login: login, Host: host, Names: names,
		Unmapped: len(names) == 0}
}

func TestWhoMayApproveOnAnotherHost(t *testing.T) {
	const itself, stranger = "another person must approve", "may ask, and not approve"
	asks := on("hq-a", 1000, "anna", "Anna")
	for what, c := range map[string]struct {
		asks, approves key.Person
		refused        string
	}{
		"another person":                  {asks, on("hq-b", 1004, "bob", "Bob"), ""},
		"another person with that uid":    {asks, on("hq-b", 1000, "bob", "Bob"), ""},
		"the same one, under another uid": {asks, on("hq-b", 1004, "a.berg", "Anna"), itself},
		"the same one, as another":        {asks, on("hq-b", 1004, "a.berg", "Bob", "Anna"), itself},
		"another name, the same login":    {asks, on("hq-b", 1004, "anna", "Bob"), itself},
		"another name, the same uid":      {asks, on("hq-a", 1000, "bob", "Bob"), itself},
		"nobody that people names":        {asks, on("hq-b", 1004, "bob"), stranger},
		"in part nobody": {asks,
			key.Person{Actor: "x", UID: 7, Login: "x", Host: "hq-b", Names: []string{"Bob"}, Unmapped: true}, stranger},
		"what nobody in people asked": {on("hq-a", 1000, "anna"), on("hq-b", 1000, "bob", "Bob"), ""},
	} {
		t.Run(what, func(t *testing.T) {
			w, p := refuted(t)
			r, rules := twoPeople(w)
			rules.People = true
			asked := proposed(t, r.Resume(as(t, c.asks), p.Key, c.asks.Actor, "looked at it"))
			err := r.Approve(t.Context(), p, asked.ID, c.approves, "agreed")
			if c.refused != "" {
				wantRefused(t, c.refused, err)
				return
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}
