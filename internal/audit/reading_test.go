package audit

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
)

// forge rewrites the content of an export's entries, links all of them again, and has the audit key sign what it then
// finds: what an attacker gets who may write the state before keyd signs it.
func (r *rig) forge(file string, change func(body string) string) string {
	r.t.Helper()
	lines := strings.SplitAfter(strings.TrimSuffix(file, "\n")+"\n", "\n")
	var head headerLine
	if err := json.Unmarshal([]byte(lines[0]), &head); err != nil {
		r.t.Fatal(err)
	}
	prev, hashes := head.Prev, []chain.Hash(nil)
	sum := sha256.New()
	sum.Write([]byte(lines[0]))
	out := lines[0]
	for _, text := range lines[1 : len(lines)-2] {
		var line entryLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			r.t.Fatal(err)
		}
		e, _, err := chain.ParseBody(line.Entry)
		if err != nil {
			r.t.Fatal(err)
		}
		body := string(line.Entry)
		if s, ok, err := parseSigned(e); ok && err == nil {
			s.Head = key.Fingerprint(hashes[s.Seq-head.First].String())
			digest := sha256.Sum256(s.Message())
			if s.Signature, err = rsa.SignPKCS1v15(nil, r.signer.key, crypto.SHA256, digest[:]); err != nil {
				r.t.Fatal(err)
			}
			e.Fields = s.fields()
			again, err := chain.Append(line.Seq-1, prev, e, "")
			if err != nil {
				r.t.Fatal(err)
			}
			body = string(again.Body)
		}
		body = change(body)
		prev = chain.LinkHash(prev, line.Seq, e.Key, chain.BodySum([]byte(body)))
		hashes = append(hashes, prev)
		forged, err := encodeLine(entryLine{Seq: line.Seq, Hash: prev, Entry: json.RawMessage(body)})
		if err != nil {
			r.t.Fatal(err)
		}
		sum.Write(forged)
		out += string(forged)
	}
	end, err := encodeLine(endLine{End: true, Lines: uint64(len(hashes)), Sum: chain.Hash(sum.Sum(nil))})
	if err != nil {
		r.t.Fatal(err)
	}
	return out + string(end)
}

// Every reader of an audit that verifies must see the same outcome in it, also where the audit key signed it.
func TestInsiderSignedEntriesThatReadInTwoWaysAreRefused(t *testing.T) {
	r := newRig(t)
	r.add("", "daemon started", "instance", "test")
	r.add("sa", chain.Adopted, chain.FieldAdopted, `{"key":"sa","gone":1,"consequence":"c","token":"t"}`)
	r.add("sa", "proof passed", "vault", "v")
	r.sign()
	r.add("sa", "rotation finished")
	file := r.export(Request{})
	if v := r.verify(r.forge(file, func(body string) string { return body })); !v.OK() {
		t.Fatalf("linked and signed again, without a change: %v", v.Problems)
	}
	for name, swap := range map[string][2]string{
		"an event twice":           {`"event":"proof passed"`, `"event":"proof refuted","event":"proof passed"`},
		"an event in another case": {`"event":"proof passed"`, `"event":"proof passed","Event":"proof refuted"`},
		"only in another case":     {`"event":"proof passed"`, `"EVENT":"proof passed"`},
		"an unknown name":          {`"event":"proof passed"`, `"event":"proof passed","outcome":"refuted"`},
		"a field twice":            {`{"vault":"v"}`, `{"vault":"w","vault":"v"}`},
		"in an adoption":           {`\"gone\":1`, `\"gone\":0,\"gone\":1`},
		"in an adoption, by case":  {`\"gone\":1`, `\"gone\":1,\"Gone\":0`},
		"deeper in an adoption": {`\"consequence\":\"c\"`,
			`\"foreign\":{\"weu\":[],\"WEU\":[]},\"consequence\":\"c\"`},
		"blanks in an adoption":    {`\"gone\":1`, `\"gone\": 1`},
		"a checkpoint's number":    {`"seq":"5"`, `"seq":"05"`},
		"a checkpoint's time":      {`00Z"}`, `00.9Z"}`},
		"a checkpoint's signature": {`"signature":"`, `"signature":"\n`},
		"a checkpoint's field":     {`"previous":`, `"note":"x","previous":`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := 0
			v := r.verify(r.forge(file, func(body string) string {
				if strings.HasPrefix(name, "a checkpoint's") &&
					!strings.Contains(body, string(chain.CheckpointSigned)) {
					return body
				}
				forged := strings.Replace(body, swap[0], swap[1], 1)
				if forged != body {
					changed++
				}
				return forged
			}))
			if changed != 1 {
				t.Fatalf("%d entries were changed", changed)
			}
			if v.OK() ||
				!slices.ContainsFunc(v.Problems, func(p string) bool { return strings.Contains(p, "read") }) {
				t.Errorf("it verifies, or nothing says why not: %q", v.Problems)
			}
		})
	}
}
