package daemon

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/status"
)

// notShown lists the fields of a record that only the loop needs, or that a drift tells of.
var notShown = []string{"seq", "deadline", "vault_at", "disable_begun", "late_at", "operations"}

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

func TestStatusShowsAVaultAsTheLatestAnswerDid(t *testing.T) {
	const url = "https://weu-keyd-test.vault.azure.net"
	at := func(minute int) time.Time { return time.Date(2026, 11, 25, 12, minute, 0, 0, time.UTC) }
	looks := vaultLooks{url: url}
	for _, seen := range []record.VaultSeen{
		{Begun: at(0), ClockAt: at(20)}, // a sweep has confirmed the old listing
		{Begun: at(10), Err: errors.New("no answer")},
		{Begun: at(5), ClockAt: at(6)},
	} {
		looks.add(&record.Observation{Vaults: map[string]record.VaultSeen{url: seen}})
	}
	var s status.Vault
	looks.show(&s)
	if !s.Reachable || s.Error != "" || !s.SeenAt.Equal(at(20)) {
		t.Errorf("reachable %v, error %q, seen at %v", s.Reachable, s.Error, s.SeenAt)
	}
}

// beingDeleted is what a vault says of a key that somebody is deleting.
type beingDeleted struct{}

func (beingDeleted) Error() string      { return "409 ObjectIsBeingDeleted" }
func (beingDeleted) Reason() key.Reason { return key.KeyBeingDeleted }

func TestAVaultThatAnswersAboutOneKeyIsReachable(t *testing.T) {
	const url = "https://weu-keyd-test.vault.azure.net"
	for _, c := range []struct {
		err  error
		want bool
	}{{beingDeleted{}, true}, {errors.New("no answer"), false}} {
		looks := vaultLooks{url: url}
		looks.add(&record.Observation{Vaults: map[string]record.VaultSeen{url: {Begun: time.Now(), Err: c.err}}})
		var s status.Vault
		if looks.show(&s); s.Reachable != c.want {
			t.Errorf("after %q reachable is %v", c.err, s.Reachable)
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
