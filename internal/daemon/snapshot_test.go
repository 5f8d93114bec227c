package daemon

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// notShown lists the fields of a record that only the loop needs.
var notShown = []string{"seq", "deadline", "vault_at", "disable_begun", "operations"}

// Programs read the status by these names.
func TestStatusNamesAGenerationsFieldsAsTheRecordDoes(t *testing.T) {
	for shown, recorded := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[status.Generation](): reflect.TypeFor[record.Generation](),
		reflect.TypeFor[status.Placement]():  reflect.TypeFor[record.Placement](),
	} {
		has := jsonNames(shown)
		for _, name := range jsonNames(recorded) {
			if !slices.Contains(has, name) && !slices.Contains(notShown, name) {
				t.Errorf("%s has no %s", shown, name)
			}
		}
	}
}

func jsonNames(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
