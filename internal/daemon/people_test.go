package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/key"
)

// uidsHere are the users of the host in these tests.
func uidsHere(login string) (uint32, bool) {
	uid, known := map[string]uint32{"anna": 1001, "bob": 1002, "carl": 1003}[login]
	return uid, known
}

func TestAPersonIsWhoHasTheUIDAndTheLogin(t *testing.T) {
	cfg := &config.Config{Host: "hq-a", People: config.People{
		"Anna": {"hq-a": 1001, "hq-b": 1002}, "Bob": {"hq-a": 1002, "hq-b": 1001}}}
	for what, c := range map[string]struct {
		actor    control.Actor
		names    []string
		unmapped bool
	}{
		"themselves": {anna, []string{"Anna"}, false},
		"under another's " +
			"uid": {control.Actor{UID: 1001, Name: "anna", Login: "bob"}, []string{"Anna", "Bob"}, false},
		"as root":                {control.Actor{Name: "root", Login: "anna"}, []string{"Anna"}, false},
		"root without a login":   {control.Actor{Name: "root"}, nil, false},
		"without a login":        {control.Actor{UID: 1001, Name: "anna"}, []string{"Anna"}, false},
		"a uid of nobody's":      {control.Actor{UID: 1003, Name: "carl", Login: "carl"}, nil, true},
		"a login of nobody's":    {control.Actor{UID: 1001, Name: "anna", Login: "carl"}, []string{"Anna"}, true},
		"a login from elsewhere": {control.Actor{UID: 1001, Name: "anna", Login: "dora"}, []string{"Anna"}, true},
	} {
		p := whoIs(c.actor, cfg, uidsHere)
		if diff := cmp.Diff(c.names, p.Names); diff != "" || p.Unmapped != c.unmapped || p.Host != "hq-a" {
			t.Errorf("%s: %+v", what, p)
		}
	}
}

func TestWithoutPeopleAPersonIsAUIDAndALogin(t *testing.T) {
	got := whoIs(anna, &config.Config{}, uidsHere)
	if diff := cmp.Diff(key.Person{Actor: anna.String(), UID: 1001, Login: "anna"}, got); diff != "" {
		t.Error(diff)
	}
}

// Whoever may edit the files may not become the second person by another name of the host.
func TestTheHostsNameIsGuardedWherePeopleAre(t *testing.T) {
	d, path := newDaemonOf(t, guarded+"host: here\npeople: {anna: {here: 1001, there: 1002}, bob: {here: 1002}}\n")
	started(t, d)
	edit(t, path, "host: here", "host: there")
	wantProposed(t, d.Reload(as(t, anna), anna.String()))
	if host := d.config().Host; host != "here" {
		t.Errorf("the host is %s already", host)
	}
}
