package audit

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
)

const attempt = "00112233445566778899aabbccddeeff"

// rotation returns the entries that the loop writes for one rotation, in which one id was given up and the first
// import did not happen.
func rotation(r *rig) {
	const id, id2, other = "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f",
		"ffeeddccbbaa99887766554433221100"
	r.add("sa", "rotation requested", "request", other, "reason", "yearly drill")
	r.add("sa", "generation reserved", "generation", "2", "id", id, "spec", "RSA-4096", "reason", "yearly drill",
		"requests", other)
	r.add("sa", "id abandoned", "generation", "2", "id", id, "new_id", id2)
	r.add("sa", "generation made", "generation", "2", "id", id2)
	r.add("sa", "generation pinned", "generation", "2", "id", id2, "fingerprint", "sha256:ab", "hsm_manufacturer",
		"SoftHSM project",
		"hsm_model", "SoftHSM v2", "hsm_serial", "e5f6", "hsm_firmware", "2.6", "hsm_token", "keyd")
	r.add("sql", "generation reserved", "generation", "2", "id", other)
	place := []string{"generation", "2", "vault", "https://weu", "cause", "rotation", "kek", "https://weu/keys/kek/1",
		"kek_fingerprint", "sha256:cd"}
	with := func(more ...string) []string { return append(append([]string(nil), place...), more...) }
	r.add("sa", "import intended", with("attempt", other, "checkpoint", "5:sha256:ee")...)
	r.add("sa", "import did not happen", with("attempt", other, "error", "403")...)
	r.add("sa", "import intended", with("attempt", attempt, "checkpoint", "9:sha256:ff")...)
	r.add("sa", "imported", with("attempt", attempt, "version", "v2")...)
	r.add("sa", "proof passed", with("attempt", attempt, "version", "v2", "checked", "modulus hsm-open")...)
	r.add("sa", "rotation finished", "generation", "2", "id", id2)
}

func receipts(r *rig, name string) *Receipts {
	r.t.Helper()
	out := NewReceipts(name)
	err := r.store.Audit(r.t.Context(), 0, func(c chain.Linked) error {
		out.Add(c.Seq, c.Entry)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func TestAReceiptHasEverythingThatTheChainSaysAboutARotation(t *testing.T) {
	r := newRig(t)
	rotation(r)
	got, err := receipts(r, "sa").Of(0)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"key":"sa","generation":2,"spec":"RSA-4096","asked_by":"keyd","reason":"yearly drill"`,
		`"requests":[{"by":"keyd","reason":"yearly drill"`,
		`"cka_id":"101112131415161718191a1b1c1d1e1f","abandoned_cka_ids":["000102030405060708090a0b0c0d0e0f"]`,
		`"fingerprint":"sha256:ab"`,
		`"hsm":{"manufacturer":"SoftHSM project","model":"SoftHSM v2","serial":"e5f6","firmware":"2.6","token":"keyd"}`,
		`"kek":"https://weu/keys/kek/1","kek_fingerprint":"sha256:cd","checkpoint":"5:sha256:ee"`,
		`"result":"the import did not happen","detail":"403"`,
		`"checkpoint":"9:sha256:ff"`, `"version":"v2"`, `"result":"passed","checked":"modulus hsm-open"`,
		`"finished":"2026-03-01T12:00:00Z"`, `"first_entry":2,"last_entry":12`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if got.Signed != nil {
		t.Errorf("it is said to be signed: %+v", got.Signed)
	}
}

func TestAReceiptOfASpareSaysWhoAskedForTheRotationAndWhenThePairWasMade(t *testing.T) {
	r := newRig(t)
	const id, asked = "000102030405060708090a0b0c0d0e0f", "ffeeddccbbaa99887766554433221100"
	r.add("sa", "generation reserved", "generation", "1")
	r.add("sa", "spare reserved", "generation", "2", "id", id, "spec", "RSA-4096")
	r.add("sa", "generation made", "generation", "2", "id", id)
	r.add("sa", "generation pinned", "generation", "2", "id", id, "fingerprint", "sha256:ab")
	if got, err := receipts(r, "sa").Of(2); err == nil {
		t.Errorf("a spare that nobody used has the receipt %+v", got)
	}
	r.add("sa", "rotation requested", "request", asked, "reason", "a drill")
	r.add("sa", "spare promoted", "generation", "2", "id", id, "reason", "a drill", "requests", asked)
	r.add("sa", "rotation finished", "generation", "2", "id", id)
	got, err := receipts(r, "sa").Of(2)
	if err != nil {
		t.Fatal(err)
	}
	if got.SpareSince.IsZero() || got.Pinned.IsZero() || got.Fingerprint != "sha256:ab" || got.Reason != "a drill" ||
		len(got.Requests) != 1 || got.Finished.IsZero() || got.Spec != "RSA-4096" || got.Last-got.First != 5 {
		t.Errorf("the receipt is %+v", got)
	}
}

func TestAReceiptNamesTheCheckpointThatCoversAllOfIt(t *testing.T) {
	r := newRig(t)
	r.add("sa", "generation reserved", "generation", "1")
	r.sign()
	r.add("sa", "rotation finished", "generation", "1")
	r.sign()
	r.sign()
	got, err := receipts(r, "sa").Of(1)
	if err != nil || got.Signed == nil || got.Signed.Entry != 6 || got.Signed.Mark != r.signer.signed[1].Mark() {
		t.Errorf("%+v, %v", got.Signed, err)
	}
}

func TestAReceiptSaysDisabledOnlyOnceNoVersionIsEnabled(t *testing.T) {
	r := newRig(t)
	rotation(r)
	for _, left := range []string{"v3", ""} {
		r.add("sa", "disabled", "generation", "2", "attempt", attempt, "still_enabled", left)
		got, err := receipts(r, "sa").Of(2)
		if err != nil {
			t.Fatal(err)
		}
		if last := got.Imports[len(got.Imports)-1]; last.Disabled.IsZero() == (left == "") {
			t.Errorf("still enabled %q: disabled %s", left, last.Disabled)
		}
	}
	r.add("sa", "enabled", "generation", "2", "attempt", attempt)
	if got, err := receipts(r, "sa").Of(2); err != nil || !got.Imports[len(got.Imports)-1].Disabled.IsZero() {
		t.Errorf("enabled again: %+v, %v", got.Imports, err)
	}
}

func TestWhatHasNoReceiptIsNamed(t *testing.T) {
	r := newRig(t)
	rotation(r)
	r.add("sa", "generation reserved", "generation", "3")
	if got, err := receipts(r, "sa").Of(0); err != nil || got.Generation != 2 {
		t.Errorf("the newest that was imported: %d, %v", got.Generation, err)
	}
	if got, err := receipts(r, "SA").Of(2); err != nil || got.Key != "sa" {
		t.Errorf("a name in another case: %q, %v", got.Key, err)
	}
	if _, err := receipts(r, "sa").Of(7); err == nil ||
		!strings.Contains(err.Error(), "no generation 7 of sa: the newest is 3") {
		t.Errorf("%v", err)
	}
	if _, err := receipts(r, "typo").Of(0); err == nil || !strings.Contains(err.Error(), "no rotation of a key typo") {
		t.Errorf("%v", err)
	}
}
