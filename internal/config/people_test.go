package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/config"
)

func TestAPersonMayHaveAnotherUIDOnEachHost(t *testing.T) {
	c := mustLoad(t, onPostgres)
	want := config.People{"alice": {"hq-a": 1000, "hq-b": 1004}, "bob": {"hq-b": 1000}}
	if diff := cmp.Diff(want, c.People); diff != "" {
		t.Error(diff)
	}
	for _, who := range []struct {
		host string
		uid  uint32
		name string
	}{{"hq-a", 1000, "alice"}, {"hq-b", 1000, "bob"}, {"hq-b", 1004, "alice"}, {"hq-a", 1004, ""}, {"hq-c", 1000, ""}} {
		if name := c.People.Of(who.host, who.uid); name != who.name {
			t.Errorf("uid %d on %s is %q, want %q", who.uid, who.host, name, who.name)
		}
	}
}

func TestAnOperatorActsUnderTheirUIDOfThisHost(t *testing.T) {
	c := mustLoad(t, onPostgres)
	if diff := cmp.Diff([]uint32{1000}, c.Control.Operators); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"alice", "bob"}, c.Approvers(998)); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyPeopleApproveWhereThereAreAny(t *testing.T) {
	c := mustLoad(
		t,
		base+"host: a\npeople: {alice: {a: 1000}, bob: {a: 1001}}\ncontrol: {operators: [1000, 1002, 0]}\n",
	)
	if diff := cmp.Diff([]string{"alice"}, c.Approvers(998)); diff != "" {
		t.Error(diff)
	}
}

func TestEachMistakeAboutPeopleIsNamed(t *testing.T) {
	const (
		uidRemedy  = "write the uid as a number, as `id -u NAME` shows it on that host; root is nobody's own"
		hostRemedy = "write a name that no other host of this instance has, such as hq-a"
	)
	for _, m := range []struct{ name, in, old, new, want string }{
		{"a host without a need", base, "keys:\n", "«host: hq-a\nkeys:\n",
			"host has no meaning without people, and without a store for several hosts; remove it"},
		{"a host that all are", onPostgres, "host: hq-a", "host: «localhost",
			"host: every host is called localhost; " + hostRemedy},
		{"no host's name", onPostgres, "host: hq-a", "host: «hq/a", `host: "hq/a" is not a host's name; ` + hostRemedy},
		{"root", onPostgres, "hq-a: 1000", "hq-a: «0", `people.alice.hq-a: "0" is not a person's uid; ` + uidRemedy},
		{"a user's name", onPostgres, "hq-a: 1000", "hq-a: «alice",
			`people.alice.hq-a: "alice" is not a person's uid; ` + uidRemedy},
		{"one uid for two", onPostgres, "bob: {hq-b: 1000}", "bob: {hq-b: «1004}",
			"people.bob: uid 1004 on hq-b is already that of alice; write each person's own uid"},
		{"one host twice", onPostgres, "hq-b: 1004", "«HQ-A: 1004", "people.alice has hq-a twice; keep one of them"},
		{"nowhere", onPostgres, "  bob: {hq-b: 1000}\ncontrol:\n  operators: [alice, bob]",
			"  «bob: {}\ncontrol:\n  operators: [alice]", "people.bob has a uid on no host; write HOST: UID for " +
				"each host"},
		{"a number", onPostgres, "  bob:", "  «1000: {hq-a: 1001}\n  bob:",
			"people: 1000 would be taken for a uid; write a person's name"},
	} {
		t.Run(m.name, func(t *testing.T) { hasMistake(t, m.in, m.old, m.new, m.want) })
	}
}

func TestWhoIsWhoIsGuarded(t *testing.T) {
	g := mustLoad(t, onPostgres).Guarded()[""]
	if g["people.alice"] != "hq-a 1000, hq-b 1004" || g["people.bob"] != "hq-b 1000" ||
		g["control.operators"] != "alice, bob" || g["host"] != "" {
		t.Errorf("%v", g)
	}
}

// Otherwise another name of the host would make one person another.
func TestWhereOneHostHasTheStateItsNameIsGuarded(t *testing.T) {
	g := mustLoad(t, base+"host: hq-a\npeople: {alice: {hq-a: 1000}}\n").Guarded()[""]
	if g["host"] != "hq-a" {
		t.Errorf("%v", g)
	}
}

func TestOperatorsInForceActUnderTheirUIDOfEachHost(t *testing.T) {
	f := mustLoad(t, onPostgres).InForce()
	text, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if f, err = config.DecodeInForce(text); err != nil {
		t.Fatal(err)
	}
	there := mustLoad(t, base+"host: hq-b\nstore: {etcd: {"+loopbackEtcd+"}}\n")
	c, err := there.Under(f)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint32{1004, 1000}, c.Control.Operators); diff != "" {
		t.Error(diff)
	}
	if c.Host != "hq-b" || c.People.Of(c.Host, 1004) != "alice" {
		t.Errorf("on %s, uid 1004 is %q", c.Host, c.People.Of(c.Host, 1004))
	}
}

// Neither root nor the daemon's own user can be told from the operator who asked.
func TestOnlyOperatorsWithALoginOfTheirOwnApprove(t *testing.T) {
	c := config.Config{Control: config.Control{Operators: []uint32{0, 998, 1000, 1001, 1000}}}
	if diff := cmp.Diff([]string{"1000", "1001"}, c.Approvers(998)); diff != "" {
		t.Error("-want +got\n" + diff)
	}
}
