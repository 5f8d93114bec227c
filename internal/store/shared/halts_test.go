package shared

import (
	"errors"
	"testing"
)

// wantHaltedBy requires that a host changes nothing because of another one.
func wantHaltedBy(t *testing.T, s *Store, other string) {
	t.Helper()
	var halted *HaltedError
	if err := s.Append(t.Context(), asked("late")); !errors.As(err, &halted) || halted.Halt.Host != other {
		t.Errorf("host %s: %v, want that host %s stops it", s.host, err, other)
	}
}

func wantOn(t *testing.T, hosts ...*Store) {
	t.Helper()
	for _, s := range hosts {
		if err := s.Append(t.Context(), asked("on")); err != nil {
			t.Errorf("host %s: %v", s.host, err)
		}
	}
}

// allMiss is a failover after which the first and the third host miss an entry, and have found that.
func allMiss(t *testing.T) *failover {
	t.Helper()
	f := newFailover(t)
	head(t, f.three) // it sees the lost entry, too
	f.promote()
	head(t, f.one)
	head(t, f.three)
	return f
}

// There is no moment in which the instance acts before each host that misses something was asked.
func TestAHostThatAcceptsDoesNotSpeakForTheOthers(t *testing.T) {
	f := allMiss(t)
	if err := f.one.Accept(t.Context(), "uid 0 (root)", "the old primary burnt"); err != nil {
		t.Fatal(err)
	}
	wantHaltedBy(t, f.one, "three")
	wantHaltedBy(t, f.two, "three")
	if err := f.three.Accept(t.Context(), "uid 0 (root)", "as on host one"); err != nil {
		t.Fatal(err)
	}
	wantOn(t, f.one, f.two, f.three)
}

func TestAHostThatMissesNothingSpeaksForThoseThatAreGone(t *testing.T) {
	f := allMiss(t)
	if err := f.three.Close(); err != nil { // for good
		t.Fatal(err)
	}
	for _, by := range []string{"one", "three"} {
		wantHaltedBy(t, f.two, by)
		if err := f.one.Accept(t.Context(), "uid 0 (root)", "host three burnt with the old primary"); err != nil {
			t.Fatal(err)
		}
	}
	wantOn(t, f.one, f.two)
}
