package vault_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/vault"
)

// heard keeps what a client told of its own calls.
type heard struct {
	url   string
	calls []vault.OwnCall
}

func (h *heard) Called(url string, c vault.OwnCall) { h.url, h.calls = url, append(h.calls, c) }

// tokenOf is a credential whose tokens name an object id.
type tokenOf string

func (o tokenOf) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	body := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"oid":%q}`, string(o)))
	return azcore.AccessToken{Token: "x." + body + ".x", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestEachTryOfACallThatUsesAKeyIsToldWithAnIDOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const version = "00112233445566778899aabbccddeeff"
		var sent []string
		answers := []int{http.StatusInternalServerError, 0, http.StatusOK}
		vaultSays := staged(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r.Header.Get("x-ms-client-request-id"))
			status := answers[0]
			answers = answers[1:]
			if status == 0 {
				return nil, errors.New("connection reset")
			}
			return answer(r, status, `{"kid":"https://`+premiumHost+`/keys/`+keyName+`/`+version+`","value":"AA"}`), nil
		})
		h := &heard{}
		c, err := vault.New(vault.Config{Vault: profiles()[0], KEKName: kekName, Calls: h}, tokenOf("object-1"),
			vaultSays, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Unwrap(t.Context(), keyName, version, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if h.url != profiles()[0].URL || len(h.calls) != 4 {
			t.Fatalf("%s: %d tries were told, want the challenge and three more: %+v", h.url, len(h.calls), h.calls)
		}
		seen := map[string]bool{}
		for i, call := range h.calls {
			if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).
				MatchString(call.ID) || seen[call.ID] {
				t.Errorf("try %d has the id %q", i, call.ID)
			}
			seen[call.ID] = true
			if i > 0 && call.ID != sent[i-1] {
				t.Errorf("try %d was sent with the id %s and told with %s", i, sent[i-1], call.ID)
			}
			if call.Begun.IsZero() || call.Ended.Before(call.Begun) {
				t.Errorf("try %d lasted from %s to %s", i, call.Begun, call.Ended)
			}
			h.calls[i].ID, h.calls[i].Begun, h.calls[i].Ended = "", time.Time{}, time.Time{}
		}
		try := vault.OwnCall{Operation: "KeyUnwrap", Key: keyName, Version: version}
		signedIn := func(status int) vault.OwnCall {
			c := try
			c.Caller, c.Status = "object-1", status
			return c
		}
		first := try
		first.Status = http.StatusUnauthorized
		want := []vault.OwnCall{first, signedIn(500), signedIn(0), signedIn(200)}
		if diff := cmp.Diff(want, h.calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestACallThatUsesNoKeyIsNotTold(t *testing.T) {
	h := &heard{}
	c := says(`{"value":[],"nextLink":null}`).client(t, func(cfg *vault.Config) { cfg.Calls = h })
	if _, err := c.Versions(t.Context(), keyName); err != nil {
		t.Fatal(err)
	}
	if len(h.calls) != 0 {
		t.Errorf("told: %+v", h.calls)
	}
}
