package record

import (
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Nobody can use a KEK that was given up and appears after another came into use: if it waited for approval, keyd
// would never make another.
func TestAKEKThatAppearsLateBlocksNothing(t *testing.T) {
	now := func(minute int) Moment {
		at := time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC)
		return Moment{at, at}
	}
	v := Vault{URL: "https://weu.vault.azure.net"}
	kid := func(version string) string { return v.URL + "/keys/keyd-kek/" + version }
	for _, err := range []error{
		v.MakeKEK(now(0), "a1", "uid 0 (root)", "yearly"), v.KEKVoid("a1", false),
		v.MakeKEK(now(4), "a2", "uid 0 (root)", "yearly"), v.KEKMade(now(4), "a2", kid("2"), "print of 2"),
		v.UseKEK(now(5), kid("2"), "print of 2", key.TrustConfigured),
		v.KEKMade(now(6), "a1", kid("1"), "print of 1"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if k := v.Waiting(); k != nil {
		t.Errorf("%s waits for approval below the one in use", k.Kid)
	}
	if k := v.Attempt("a1"); k.State != key.KEKSuperseded || k.Superseded.IsZero() {
		t.Errorf("it is %s since %v, want superseded", k.State, k.Superseded)
	}
}
