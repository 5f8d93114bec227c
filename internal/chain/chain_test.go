package chain_test

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/chain"
)

func entry() chain.Entry {
	return chain.Entry{Time: time.Date(2026, 3, 1, 2, 3, 4, 5, time.FixedZone("", 3600)), Key: "sa-cmk-key",
		Event: chain.ImportIntended, Actor: "keyd", Fields: map[string]string{"vault": "v", "attempt": "a"}}
}

// The form never changes: auditors check the exports they keep by it.
func TestTheFormOfALink(t *testing.T) {
	prev := chain.Hash{1}
	got, err := chain.Append(6, prev, entry(), "sha256:r")
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"time":"2026-03-01T01:03:04.000000005Z","key":"sa-cmk-key","event":"import intended",` +
		`"actor":"keyd","fields":{"attempt":"a","vault":"v"},"record":"sha256:r"}`
	if diff := cmp.Diff(body, string(got.Body)); diff != "" {
		t.Errorf("the content (-want +got):\n%s", diff)
	}
	sum := sha256.Sum256([]byte(body))
	h := sha256.New()
	h.Write([]byte("keyd audit chain v2\n"))
	h.Write(prev[:])
	h.Write(binary.BigEndian.AppendUint64(nil, 7))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len("sa-cmk-key"))))
	h.Write([]byte("sa-cmk-key"))
	h.Write(sum[:])
	if want := chain.Hash(h.Sum(nil)); got.Hash != want || got.Seq != 7 || got.Prev != prev {
		t.Errorf("linked as %+v, want number 7 and hash %s", got, want)
	}
}

func TestALinkHoldsOnlyForItsOwnPlaceAndContent(t *testing.T) {
	l, err := chain.Append(0, chain.Hash{}, entry(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !chain.Links(chain.Hash{}, 1, l.Key, l.Body, l.Hash) {
		t.Fatal("an entry does not link")
	}
	other := append([]byte(nil), l.Body...)
	other[len(other)-3] ^= 1
	for what, links := range map[string]bool{
		"behind another entry":   chain.Links(chain.Hash{1}, 1, l.Key, l.Body, l.Hash),
		"with another number":    chain.Links(chain.Hash{}, 2, l.Key, l.Body, l.Hash),
		"as of another key":      chain.Links(chain.Hash{}, 1, "other", l.Body, l.Hash),
		"with another content":   chain.Links(chain.Hash{}, 1, l.Key, other, l.Hash),
		"with another hash":      chain.Links(chain.Hash{}, 1, l.Key, l.Body, chain.Hash{9}),
		"by the sum of nothing":  l.Hash == chain.LinkHash(chain.Hash{}, 1, l.Key, chain.BodySum(nil)),
		"with no name of a key":  chain.Links(chain.Hash{}, 1, "", l.Body, l.Hash),
		"with a name cut short":  chain.Links(chain.Hash{}, 1, l.Key[:4], l.Body, l.Hash),
		"with content cut short": chain.Links(chain.Hash{}, 1, l.Key, l.Body[:9], l.Hash),
	} {
		if links {
			t.Errorf("an entry links %s", what)
		}
	}
}

func TestAnEntryReadsBackAsItWasWritten(t *testing.T) {
	l, err := chain.Append(3, chain.Hash{}, entry(), "sha256:r")
	if err != nil {
		t.Fatal(err)
	}
	e, sum, err := chain.ParseBody(l.Body)
	if diff := cmp.Diff(l.Entry, e); diff != "" || sum != "sha256:r" || err != nil {
		t.Errorf("%q, %v (-written +read):\n%s", sum, err, diff)
	}
	if _, _, err := chain.ParseBody([]byte("{")); err == nil {
		t.Error("half an entry was read")
	}
	text, _ := l.Hash.MarshalText()
	var h chain.Hash
	if err := h.UnmarshalText(text); err != nil || h != l.Hash {
		t.Errorf("%s was read as %s, %v", text, h, err)
	}
	for _, bad := range []string{"", "sha256:", "sha256:00", "md5:00", string(text[7:])} {
		if err := h.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read as a hash", bad)
		}
	}
}

func TestNoTwoEventsHaveTheSameText(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	name := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) +Event = "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		if name[m[2]] != "" {
			t.Errorf("%s and %s are both %q", name[m[2]], m[1], m[2])
		}
		name[m[2]] = m[1]
	}
	if len(name) < 30 {
		t.Errorf("only %d events were read", len(name))
	}
}

// A name twice, in another case, or unknown: each is JSON that two programs read differently.
func TestAnEntryIsReadOnlyAsItIsWritten(t *testing.T) {
	l, err := chain.Append(0, chain.Hash{}, entry(), "sha256:r")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := chain.ParseBody(l.Body); err != nil {
		t.Fatal(err)
	}
	for name, swap := range map[string][2]string{
		"an actor twice":              {`"actor":"keyd"`, `"actor":"keyd","actor":"uid 0 (root)"`},
		"an actor in another case":    {`"actor":"keyd"`, `"actor":"keyd","Actor":"uid 0 (root)"`},
		"only in another case":        {`"actor":`, `"ACTOR":`},
		"an unknown name":             {`"actor":`, `"outcome":"passed","actor":`},
		"a field twice":               {`"vault":"v"`, `"vault":"other","vault":"v"`},
		"fields twice":                {`"fields":{`, `"fields":{"attempt":"other"},"fields":{`},
		"fields in another order":     {`"attempt":"a","vault":"v"`, `"vault":"v","attempt":"a"`},
		"an escape for a letter":      {`"keyd"`, `"\u006beyd"`},
		"a space":                     {`"actor":`, `"actor": `},
		"text after the end":          {`"sha256:r"}`, `"sha256:r"} `},
		"a time in another zone":      {`01:03:04.000000005Z`, `02:03:04.000000005+01:00`},
		"an empty name written out":   {`,"record":"sha256:r"}`, `,"record":""}`},
		"a letter that looks like it": {`"actor":`, `"actor":"keyd","key\u017f":"x","a":`},
	} {
		text := strings.Replace(string(l.Body), swap[0], swap[1], 1)
		if text == string(l.Body) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if e, _, err := chain.ParseBody([]byte(text)); err == nil {
			t.Errorf("%s was read as %+v: %s", name, e, text)
		}
	}
}

func TestBytesThatAreNotTextReadBackAsTheyWereHashed(t *testing.T) {
	e := entry()
	e.Key, e.Actor, e.Fields = "k\xff", "a\xfe\u2028<", map[string]string{"token\xfd": "M\xfcnchen"}
	l, err := chain.Append(0, chain.Hash{}, e, "")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := chain.ParseBody(l.Body)
	if diff := cmp.Diff(l.Entry, got); diff != "" || err != nil {
		t.Errorf("%v (-written +read):\n%s", err, diff)
	}
	if !chain.Links(l.Prev, l.Seq, got.Key, l.Body, l.Hash) {
		t.Error("it does not link by the name that is read")
	}
}
