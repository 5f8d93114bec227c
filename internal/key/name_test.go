package key

import (
	"errors"
	"testing"
)

func TestANameThatDiffersOnlyInCaseFromARecordIsRefused(t *testing.T) {
	for _, c := range []struct {
		about, name string
		records     map[string]bool
		refused     string // the record
	}{
		{"new", "foo-key", map[string]bool{"bar-key": true}, ""},
		{"as the record has it", "Foo-Key", map[string]bool{"Foo-Key": true}, ""},
		{"renamed", "foo-key", map[string]bool{"Foo-Key": true}, "Foo-Key"},
		{"renamed before anything was placed", "foo-key", map[string]bool{"Foo-Key": false}, "Foo-Key"},
		{
			"two records, the other is the key's", "foo-key",
			map[string]bool{"foo-key": false, "Foo-Key": true}, "Foo-Key",
		},
		{"two records, this is the key's", "Foo-Key", map[string]bool{"foo-key": false, "Foo-Key": true}, ""},
		{"two records, and no telling", "Foo-Key", map[string]bool{"foo-key": true, "Foo-Key": true}, ""},
	} {
		err := CheckCase(c.name, c.records)
		var e *CaseError
		if got := errors.As(err, &e); got != (c.refused != "") ||
			got && (e.Record != c.refused || ClassOf(err) != Refused) {
			t.Errorf("%s: %v", c.about, err)
		}
	}
}
