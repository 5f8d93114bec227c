package audit

import (
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
)

// Whatever the file holds, an entry that verifies as signed is really the chain's own.
func FuzzVerify(f *testing.F) {
	var files []string
	var bodies []string
	r := story(f)
	for _, q := range []Request{{}, {Key: "sql"}, {Key: "sa", Until: r.now}} {
		q.Format = JSON
		var b strings.Builder
		if err := Export(f.Context(), r.store, q, r.now, &b); err != nil {
			f.Fatal(err)
		}
		files = append(files, b.String())
	}
	err := r.store.Audit(f.Context(), 0, func(c chain.Linked) error {
		bodies = append(bodies, string(c.Body))
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	for i, file := range files {
		f.Add(file, uint16(0), "")
		f.Add(file, uint16(100*i), `"actor":"uid 0"`)
		f.Add(file, uint16(300), "\n")
	}
	keys := r.public()
	f.Fuzz(func(t *testing.T, file string, at uint16, splice string) {
		if int(at) < len(file) {
			file = file[:at] + splice + file[at:]
		}
		v, err := Verify(strings.NewReader(file), keys, Expect{})
		if err != nil || !v.OK() {
			return
		}
		for i, line := range strings.Split(strings.TrimSpace(file), "\n")[1:] {
			seq := v.First + uint64(i)
			_, body, shown := strings.Cut(line, `"entry":`)
			if shown && seq <= v.SignedTo && bodies[seq-1]+"}" != body {
				t.Errorf("entry %d verifies as %s, and is %s", seq, body, bodies[seq-1])
			}
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add(EncodeKey(public(testKeys()[0])))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseKeys(text)
		if err != nil {
			return
		}
		for _, k := range keys {
			if again, err := ParseKeys(EncodeKey(k)); err != nil || len(again) != 1 || again[0] != k {
				t.Errorf("a key that cannot be written again: %v, %v", again, err)
			}
		}
	})
}
