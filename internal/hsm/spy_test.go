package hsm

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

func TestTheTokenSeesNoSensitiveReadAndNoUntrustedKEK(t *testing.T) {
	t.Parallel()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	env, log := spied(t, tok, &c)
	r := start(t, tok, c, env...)
	id := r.generate(t)
	pub, err := r.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	trusted, _ := newKEK(t, vaultURL)
	if _, err := r.WrapFor(t.Context(), id, trusted); err != nil {
		t.Fatal(err)
	}
	swapped := anotherKEK(t, vaultURL)
	_, err = r.WrapFor(t.Context(), id, swapped)
	wantCode(t, err, KEKRefused, key.Refused)
	sum := sha256.Sum256([]byte("x"))
	if yes, err := r.Opens(t.Context(), id, seal(t, pub, []byte("x")), sum); err != nil || !yes {
		t.Fatal(yes, err)
	}
	if err := r.Destroy(t.Context(), r.generate(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Inventory(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.MakeAuditKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.SignCheckpoint(t.Context(), entries(1, 3).after(nil)); err != nil {
		t.Fatal(err)
	}
	r.stop()

	calls := log()
	sensitive := regexp.MustCompile(
		`CKA_(PRIVATE_EXPONENT|PRIME|PRIME_1|PRIME_2|EXPONENT_1|EXPONENT_2|COEFFICIENT|VALUE)\s`,
	)
	if found := sensitive.FindString(calls); found != "" {
		t.Errorf("keyd asked for the sensitive attribute %s", found)
	}
	if !strings.Contains(calls, modulusLine(trusted.Material)) {
		t.Error("the log does not show the trusted KEK, so it cannot show an untrusted one either")
	}
	if strings.Contains(calls, modulusLine(swapped.Material)) {
		t.Error("the swapped KEK reached the token")
	}
	allowed := []string{
		"C_GetFunctionList", "C_Initialize", "C_GetInfo", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession",
		"C_CloseSession", "C_Login", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue",
		"C_SetAttributeValue", "C_CreateObject", "C_DestroyObject", "C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey",
		"C_DecryptInit", "C_Decrypt", "C_SignInit", "C_Sign", "C_GetInterface",
	}
	for _, m := range regexp.MustCompile(`(?m)^\d+: (C_\w+)$`).FindAllStringSubmatch(calls, -1) {
		if !slices.Contains(allowed, m[1]) {
			t.Errorf("keyd called %s", m[1])
		}
	}
}

// modulusLine is how pkcs11-spy prints the first 16 bytes of the modulus.
func modulusLine(m key.Material) string {
	return "00000000  " + fmt.Sprintf("% X", rsaOf(m).N.Bytes()[:16])
}
