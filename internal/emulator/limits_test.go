package emulator_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/keyd-project/keyd/internal/emulator"
)

func throttled(t *testing.T, err error) (retryAfter string, yes bool) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != http.StatusTooManyRequests {
		return "", false
	}
	wantError(t, err, 429, "Throttled", "")
	return response.RawResponse.Header.Get("Retry-After"), true
}

// callsUntilThrottled counts the calls that succeeded, and returns the Retry-After of the first that did not.
func callsUntilThrottled(t *testing.T, most int, call func() error) (int, string) {
	t.Helper()
	for n := range most {
		if after, yes := throttled(t, call()); yes {
			return n, after
		}
	}
	return most, ""
}

func TestServiceLimitsHoldWhereTheyArePublished(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now, ServiceLimits: true})
	createEC := func(host string, kty azkeys.KeyType) func() error {
		c := newClient(t, e, host)
		return func() error {
			_, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: &kty}, nil)
			return err
		}
	}
	vault := newClient(t, e, premium)
	importBig(t, vault)
	for _, test := range []struct {
		name  string
		calls int
		after string
		call  func() error
	}{
		{"a vault makes 10 HSM keys in 10 seconds", 10, "10", createEC(premium, "EC-HSM")},
		{"a vault makes 20 software keys in 10 seconds", 20, "10", createEC(premium, "EC")},
		{"a vault serves 250 calls on RSA-4096 HSM keys in 10 seconds, GET included", 250, "10", func() error {
			_, err := vault.GetKey(t.Context(), "big", "", nil)
			return err
		}},
		{"a Managed HSM makes 1 key in a second", 1, "1", createEC(managedHSM, "EC-HSM")},
	} {
		clock.advance(10 * time.Second)
		for range 2 { // the next window is like the first
			if n, after := callsUntilThrottled(t, test.calls+1, test.call); n != test.calls || after != test.after {
				t.Errorf("%s: %d calls went through, then Retry-After %q", test.name, n, after)
			}
			clock.advance(10 * time.Second)
		}
	}
}

// "The throttling thresholds are weighted, and enforcement is on their sum."
func TestCallsOnASlowKeyUseUpWhatFastOnesNeed(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now, ServiceLimits: true})
	c := newClient(t, e, premium)
	importBig(t, c)
	_, err := c.CreateKey(t.Context(), "fast",
		azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr(int32(3072))}, nil)
	must(t, err)
	clock.advance(10 * time.Second)
	get := func(name string) func() error {
		return func() error { _, err := c.GetKey(t.Context(), name, "", nil); return err }
	}
	if n, _ := callsUntilThrottled(t, 125, get("big")); n != 125 {
		t.Fatalf("%d calls on the slow key", n)
	}
	if n, _ := callsUntilThrottled(t, 251, get("fast")); n != 250 {
		t.Errorf("after half the window, %d calls on the fast key went through, want 250", n)
	}
}

func TestImportsHaveALimitOfTheirOwn(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now, ServiceLimits: true})
	c := newClient(t, e, premium)
	jwk := plainRSA(fixedKey(t, 3072))
	jwk.Kty = ptr(azkeys.KeyTypeRSAHSM)
	n, after := callsUntilThrottled(t, 301, func() error {
		_, err := c.ImportKey(t.Context(), "k", azkeys.ImportKeyParameters{Key: &jwk}, nil)
		return err
	})
	if n != 300 || after != "10" {
		t.Errorf("%d imports went through, then Retry-After %q", n, after)
	}
	if _, err := c.GetKey(t.Context(), "k", "", nil); err != nil {
		t.Errorf("other calls are refused, too: %v", err)
	}
}

func TestASubscriptionAllowsItsVaultsFiveVaultsWorth(t *testing.T) {
	clock := newClock()
	opts := emulator.Options{Now: clock.Now, ServiceLimits: true}
	var hosts []string
	for n := range 7 {
		v := emulator.VaultConfig{Host: fmt.Sprintf("many-%d.vault.azure.net", n)}
		if n == 6 {
			v.Subscription = "another"
		}
		opts.Vaults = append(opts.Vaults, v)
		hosts = append(hosts, v.Host)
	}
	e := start(t, opts)
	var through []int
	for _, host := range hosts {
		c := newClient(t, e, host)
		made, _ := callsUntilThrottled(t, 11, func() error {
			_, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}, nil)
			return err
		})
		through = append(through, made)
	}
	if want := []int{10, 10, 10, 10, 10, 0, 10}; !slices.Equal(through, want) {
		t.Errorf("new keys in each vault: %v, want %v", through, want)
	}
}

func TestWithoutServiceLimitsNothingIsThrottled(t *testing.T) {
	clock := newClock()
	e := start(t, emulator.Options{Now: clock.Now})
	c := newClient(t, e, managedHSM)
	n, _ := callsUntilThrottled(t, 30, func() error {
		_, err := c.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}, nil)
		return err
	})
	if n != 30 {
		t.Errorf("throttled after %d", n)
	}
}
