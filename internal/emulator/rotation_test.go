package emulator_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func policyOf(expiry *string, actions ...*azkeys.LifetimeAction) azkeys.KeyRotationPolicy {
	return azkeys.KeyRotationPolicy{LifetimeActions: actions,
		Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: expiry}}
}

func action(kind azkeys.KeyRotationPolicyAction, after, before *string) *azkeys.LifetimeAction {
	return &azkeys.LifetimeAction{
		Action:  &azkeys.LifetimeActionType{Type: &kind},
		Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: after, TimeBeforeExpiry: before},
	}
}

func TestARotationPolicyIsKeptAndShown(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now})
	for _, host := range []string{premium, managedHSM} {
		c := newClient(t, e, host)
		foreign(t, e, host, "k")
		before, err := c.GetKeyRotationPolicy(t.Context(), "k", nil)
		must(t, err)
		if a := before.LifetimeActions; host == managedHSM && len(a) != 0 ||
			host == premium && (*a[0].Action.Type != azkeys.KeyRotationPolicyActionNotify ||
				*a[0].Trigger.TimeBeforeExpiry != "P30D") {
			t.Errorf("%s: without a policy: %+v", host, a)
		}
		set, err := c.UpdateKeyRotationPolicy(t.Context(), "k",
			policyOf(ptr("P90D"), action("rotate", ptr("P60D"), nil), action("Notify", nil, ptr("P7D"))), nil)
		must(t, err)
		got, err := c.GetKeyRotationPolicy(t.Context(), "k", nil)
		must(t, err)
		id, rotate := "https://"+host+"/keys/k/rotationpolicy", azkeys.KeyRotationPolicyActionRotate
		if host == managedHSM {
			id, rotate = "keys/k/rotationpolicy", "rotate" // spelled as the client gave it
		}
		if *got.ID != id || *got.Attributes.ExpiryTime != "P90D" || len(got.LifetimeActions) != 2 ||
			*got.LifetimeActions[0].Action.Type != rotate ||
			*got.LifetimeActions[0].Trigger.TimeAfterCreate != "P60D" ||
			!got.Attributes.Created.Equal(*set.Attributes.Created) {
			t.Errorf("%s: %+v", host, got)
		}
	}
}

func TestARotationPolicyThatCannotWorkIsRefused(t *testing.T) {
	e := start(t, emulator.Options{})
	c := newClient(t, e, premium)
	foreign(t, e, premium, "k")
	rotate := azkeys.KeyRotationPolicyActionRotate
	for name, p := range map[string]azkeys.KeyRotationPolicy{
		"an expiry of 27 days":        policyOf(ptr("P27D")),
		"an expiry that is no period": policyOf(ptr("90 days")),
		"an unknown action":           policyOf(nil, action("Delete", nil, ptr("P1D"))),
		"two rotations":               policyOf(nil, action(rotate, nil, ptr("P1D")), action(rotate, nil, ptr("P2D"))),
		"no trigger":                  policyOf(nil, action(rotate, nil, nil)),
		"two triggers":                policyOf(nil, action(rotate, ptr("P1D"), ptr("P1D"))),
		"a notice after creation":     policyOf(nil, action("Notify", ptr("P1D"), nil)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.UpdateKeyRotationPolicy(t.Context(), "k", p, nil)
			wantError(t, err, 400, "BadParameter", "")
		})
	}
}

func TestRotateMakesAVersionLikeTheNewest(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now})
	for _, host := range []string{premium, managedHSM} {
		c := newClient(t, e, host)
		old, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{
			Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP384),
			KeyOps: []*azkeys.KeyOperation{ptr(azkeys.KeyOperationSign)}, Tags: map[string]*string{"a": ptr("b")},
		}, nil)
		must(t, err)
		_, err = c.UpdateKeyRotationPolicy(t.Context(), "k", policyOf(ptr("P1Y2M")), nil)
		must(t, err)
		res, err := c.RotateKey(t.Context(), "k", nil)
		must(t, err)
		if res.Key.KID.Version() == old.Key.KID.Version() || *res.Key.Crv != azkeys.CurveNameP384 ||
			len(res.Key.KeyOps) != 1 || *res.Tags["a"] != "b" {
			t.Errorf("%s: %+v", host, res.Key)
		}
		if want := clock.Now().AddDate(1, 2, 0).Truncate(time.Second); !res.Attributes.Expires.Equal(want) {
			t.Errorf("%s: expires %s, want %s", host, res.Attributes.Expires, want)
		}
		must(t, e.Vault(host).SetEnabled("k", "", false))
		_, err = c.RotateKey(t.Context(), "k", nil)
		wantError(t, err, 403, "Forbidden", "KeyDisabled")
	}
}
