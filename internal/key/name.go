package key

import (
	"fmt"
	"strings"
)

// SameName reports whether two names mean the same key, or the same vault. Key Vault ignores case
// (learn.microsoft.com, "Azure Key Vault keys, secrets and certificates overview": object names are
// case-insensitive).
func SameName(a, b string) bool { return strings.EqualFold(a, b) }

// CaseError reports a key whose name differs only in case from the name of a record. To a vault both are the same
// key.
type CaseError struct{ Name, Record string }

func (e *CaseError) Error() string {
	return fmt.Sprintf("key %s differs only in case from the record %[2]s, and vaults ignore case: "+
		"write %[2]s under keys: in the configuration", e.Name, e.Record)
}

// Class is Refused: the answer stays the same until an operator changes the configuration.
func (e *CaseError) Class() Class { return Refused }

// CheckCase refuses a key whose name differs only in case from the name of a record. records says for each record
// whether it has a placement. Only an earlier keyd could make two such records; then the key owns the record with
// placements.
func CheckCase(name string, records map[string]bool) error {
	placed, known := records[name]
	for other, otherPlaced := range records {
		if other != name && SameName(other, name) && (!known || otherPlaced && !placed) {
			return &CaseError{Name: name, Record: other}
		}
	}
	return nil
}
