package vault_test

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/emulator"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/vault"
)

func TestAnErrorHasAReasonInOneWord(t *testing.T) {
	t.Parallel()
	b := newBench(t, profiles()[0], emulator.Options{})
	c, _ := b.ready(t)
	for want, rule := range map[key.Reason]emulator.Rule{
		key.ForbiddenByRBAC:     {Status: http.StatusForbidden, Inner: "ForbiddenByRbac"},
		key.ForbiddenByPolicy:   {Status: http.StatusForbidden, Inner: "ForbiddenByPolicy"},
		key.ForbiddenByFirewall: {Status: http.StatusForbidden, Inner: "ForbiddenByFirewall"},
		key.KeyDisabled:         {Status: http.StatusForbidden, Inner: "KeyDisabled"},
		key.OperationForbidden:  {Status: http.StatusForbidden, Inner: "KeyOperationForbidden"},
		key.KeyExpired:          {Status: http.StatusForbidden, Inner: "KeyExpired"},
		key.KeyNotYetValid:      {Status: http.StatusForbidden, Inner: "KeyNotYetValid"},
		key.Forbidden:           {Status: http.StatusForbidden, Inner: "SomethingNew"},
		key.KeyNotFound:         {Status: http.StatusNotFound},
		key.Throttled:           {Status: http.StatusTooManyRequests, NoRetryAfter: true},
		key.ServiceError:        {Status: http.StatusInternalServerError},
		key.NoAnswer:            {Drop: emulator.DropBeforeCommit},
	} {
		t.Run(string(want), func(t *testing.T) {
			rule.Operation = "get"
			active := b.Fail(rule)
			_, err := c.Newest(noRetries(t.Context()), keyName)
			if active.Hits() == 0 {
				t.Fatal("the rule struck nothing")
			}
			b.ClearFailures()
			if got := key.ReasonOf(err); got != want || !slices.Contains(key.Reasons(), got) {
				t.Errorf("%s, want %s, of %v", got, want, err)
			}
		})
	}
	if got := key.ReasonOf(errors.New("anything")); got != key.OtherReason {
		t.Errorf("an error without a reason has %s", got)
	}
}

// Each inner code that keyd knows has its own remedy and a line in the runbooks.
func TestEachInnerCodeHasAHintAndARunbookLine(t *testing.T) {
	t.Parallel()
	runbooks := string(must(os.ReadFile("../../docs/runbooks.md")))
	b := newBench(t, profiles()[0], emulator.Options{})
	c, _ := b.ready(t)
	hints := map[string]key.Reason{}
	for _, inner := range []key.Reason{
		key.ForbiddenByRBAC, key.ForbiddenByPolicy, key.ForbiddenByFirewall, key.KeyDisabled, key.KeyExpired,
		key.KeyNotYetValid, key.OperationForbidden, key.KeyDeleted, key.KeyBeingDeleted,
	} {
		b.Fail(emulator.Rule{Operation: "get", Status: http.StatusForbidden, Inner: string(inner)})
		_, err := c.Newest(noRetries(t.Context()), keyName)
		b.ClearFailures()
		var e *vault.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Fatalf("%s: no hint: %v", inner, err)
		}
		if other, twice := hints[e.Hint]; twice {
			t.Errorf("%s has the hint of %s: %s", inner, other, e.Hint)
		}
		hints[e.Hint] = inner
		if !strings.Contains(runbooks, "| `"+string(inner)+"` |") {
			t.Errorf("docs/runbooks.md has no line for %s", inner)
		}
	}
}

func TestANativeRotationPolicyIsDetected(t *testing.T) {
	t.Parallel()
	eachProfile(t, func(t *testing.T, b *bench) {
		c, kek := b.ready(t)
		if _, err := c.Import(t.Context(), request(t, kek, material())); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{false, true, false} {
			if err := b.inside.SetNativeRotation(keyName, want); err != nil {
				t.Fatal(err)
			}
			if got, err := c.NativeRotation(t.Context(), keyName); err != nil || got != want {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		}
	})
}
