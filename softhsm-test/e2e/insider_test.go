package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// head is the chain's head as a mark.
func (w *world) head() string {
	w.t.Helper()
	var r control.AuditReport
	if err := json.Unmarshal([]byte(w.must("audit", "--verify", "--json")), &r); err != nil {
		w.t.Fatal(err)
	}
	return fmt.Sprintf("%d:%s", r.Entries, r.Head)
}

// acceptHead does what root does on the HSM side's machine.
func (w *world) acceptHead(reason string) {
	w.t.Helper()
	a := w.command("hsm", "accept-head", "--config", w.path("keyd.yaml"), "--head", w.head(), "--reason", reason)
	if a.code != 0 {
		w.t.Fatalf("accept-head: %s%s", a.stdout, a.stderr)
	}
	w.must("audit", "checkpoint")
}

// editChain rewrites the whole chain in the file of a stopped daemon. It is consistent in itself.
func (w *world) editChain(change func(*chain.Entry)) {
	w.t.Helper()
	db, err := bbolt.Open(w.path("state/keyd.db"), 0o600, &bbolt.Options{Timeout: 10 * time.Second})
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error { return rewrite(tx.Bucket([]byte("audit")), change) })
	if err != nil {
		w.t.Fatal(err)
	}
}

func rewrite(b *bbolt.Bucket, change func(*chain.Entry)) error {
	const hash = 32 // a value is the hash before, the hash, and the content
	values := map[string][]byte{}
	prev := chain.Hash{}
	err := b.ForEach(func(seq, value []byte) error {
		e, record, err := chain.ParseBody(slices.Clone(value[2*hash:]))
		if err != nil {
			return err
		}
		change(&e)
		l, err := chain.Append(uint64(len(values)), prev, e, record)
		if err != nil {
			return err
		}
		values[string(seq)], prev = slices.Concat(l.Prev[:], l.Hash[:], l.Body), l.Hash
		return nil
	})
	for seq, value := range values {
		err = errors.Join(err, b.Put([]byte(seq), value))
	}
	return err
}

// The daemon is stopped, and somebody who may write its file makes it say that another person asked for the rotation,
// for another reason. keyd signs none of it at the next start, and says so.
func TestInsiderAnEditedStateIsNotSignedAtTheNextStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start()
	w.waitGeneration(1)
	w.must("rotate", "--now", keyName, "--reason", "nobody is to know")
	w.waitSigned(2)
	w.retireAfter("400d")
	w.must("reload")
	w.must("retire", keyName, "--yes", "--reason", "as shown")
	pub := w.must("audit", "key")
	w.stop()
	w.editChain(func(e *chain.Entry) {
		if strings.HasPrefix(e.Actor, "uid ") {
			e.Actor, e.Fields["reason"] = "schedule", "as planned"
		}
		if e.Event == chain.CheckpointSigned { // no entry may be missing: the records say how many there were
			e.Event, e.Fields = chain.DaemonStopped, nil
		}
	})
	w.start()
	w.wait("the problem shows", func(s status.Snapshot, _ status.Key) bool {
		return slices.ContainsFunc(s.Problems, func(p status.Problem) bool {
			return p.Runbook == "keydauditbroken" && p.Severity == status.Critical
		})
	})
	w.wantContains(w.must("audit", "--verify"), "internally consistent")
	if a := w.cli("audit", "checkpoint"); a.code == 0 || !strings.Contains(a.stderr, "keyd hsm accept-head") {
		t.Errorf("a checkpoint: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	file := w.must("audit", "export")
	files := map[string]string{"f": file, "pub.pem": pub}
	a := w.offline(files, "audit", "verify", "f", "--key", "pub.pem")
	if a.code != 1 || !strings.Contains(a.stdout, "no entry of the file is signed") {
		t.Errorf("the auditor: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	lines, code := w.check()
	w.wantLine(lines, "store", w.path("state"), "audit chain as it was signed", status.CheckFailed, "accept-head")
	if code != 1 {
		t.Errorf("check: exit %d", code)
	}

	// Root accepts it: that ends the consents, is signed, and whoever verifies must accept it, too.
	w.wantContains(w.must("retire", keyName), " consented at ")
	w.acceptHead("the attack is investigated")
	w.wantContains(w.must("retire", keyName), "No operator has consented")
	w.wantContains(w.must("audit"), string(chain.RetireConsentEnded))
	files["f"] = w.must("audit", "export")
	a = w.offline(files, "audit", "verify", "f", "--key", "pub.pem")
	_, id, found := strings.Cut(a.stdout, "--accept-break ")
	if a.code != 1 || !found || !strings.Contains(a.stdout, "the attack is investigated") {
		t.Fatalf("the auditor: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
	id = strings.Fields(id)[0]
	a = w.offline(files, "audit", "verify", "f", "--key", "pub.pem", "--accept-break", id)
	if a.code != 0 {
		t.Errorf("the auditor who knows of it: exit %d: %s%s", a.code, a.stdout, a.stderr)
	}
}
