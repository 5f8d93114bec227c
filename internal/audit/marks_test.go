package audit

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// copyTo writes the first entries of the chain into the chain of a new rig. The result looks like a state that was
// cut off, or an older copy.
func (r *rig) copyTo(entries int) *rig {
	r.t.Helper()
	older := newRig(r.t)
	err := r.store.Audit(r.t.Context(), 0, func(c chain.Linked) error {
		if c.Seq > uint64(entries) {
			return nil
		}
		return older.store.Append(r.t.Context(), c.Entry)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return older
}

func TestAMarkMissingFromTheChainIsExplained(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.sign() // of entry 3, in entry 4
	r.add("sa", "rotation finished")
	c := r.sign() // of entry 5, in entry 6
	early, late := Mark{3, key.Fingerprint(hashOf(r, 3))}, Mark{c.Seq, c.Head}
	if late.String() != c.Mark() {
		t.Errorf("%s, and the checkpoint says %s", late, c.Mark())
	}

	other := r.copyTo(4)
	other.add("sa", "key held")
	other.signer.last = nil
	other.sign()
	for _, test := range []struct {
		name        string
		chain       *rig
		early, late string // what is wrong with the mark; "": nothing
	}{
		{"whole", r, "", ""},
		{"goes on", func() *rig { g := r.copyTo(6); g.add("sa", "key held"); return g }(), "", ""},
		{"cut off", r.copyTo(4), "", "the chain ends with entry 4: its end was cut off"},
		{"cut off behind the entry that was signed", r.copyTo(5), "",
			"the chain has entry 5, but no record of its signature"},
		{"put back and gone on", other, "", "entry 5 of the chain has another hash"},
		{"empty", newRig(t), "the chain ends with entry 0", "the chain ends with entry 0"},
	} {
		got, err := Mismatches(t.Context(), test.chain.store, []Mark{late, early})
		if err != nil {
			t.Fatal(err)
		}
		for mark, want := range map[Mark]string{early: test.early, late: test.late} {
			if text := got[mark]; (want == "") != (text == "") || !strings.HasPrefix(text, want) {
				t.Errorf("%s: mark %s: %q, want %q", test.name, mark, text, want)
			}
		}
	}
}

func TestWithoutMarksTheChainIsNotRead(t *testing.T) {
	if got, err := Mismatches(t.Context(), nil, nil); len(got) > 0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// hashOf returns the hash of one entry.
func hashOf(r *rig, seq uint64) (hash string) {
	r.t.Helper()
	err := r.store.Audit(r.t.Context(), seq, func(c chain.Linked) error {
		if c.Seq == seq {
			hash = c.Hash.String()
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return hash
}
