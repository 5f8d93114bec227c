//go:build system

package systemtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// secondKey is what the configuration also has from here on.
const secondKey = "  second-key: {spec: RSA-2048, vaults: [" + vaultName + "]}\n"

func reloadGood(t *testing.T, w *world) {
	keyd := w.pid(t, "keyd")
	w.azure(t, "op=unwrap,key="+keyName+",count=1,hold")
	w.held(t, "a proof's unwrap")
	before := w.proofs(t)
	w.setConfig(t, secondKey)
	w.run(t, "systemctl", "reload", "keyd")
	eventually(t, "the second key is made, imported and proven", func() error {
		s, err := w.status()
		if err == nil && (len(s.Keys) != 2 || s.Keys[1].State != "ok") {
			err = fmt.Errorf("keyd shows %+v", s.Keys)
		}
		return err
	})
	w.azure(t, "")
	eventually(t, "the proof that was under way passes", func() error {
		if now := w.proofs(t); now["passed"] <= before["passed"] {
			return fmt.Errorf("proofs: %v, before: %v", now, before)
		}
		return heldProofWentOn(w.vault(t).Requests)
	})
	now := w.proofs(t)
	delete(now, "passed")
	delete(before, "passed")
	if fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("proofs that did not pass: %v, before: %v", now, before)
	}
	w.keydKept(t, keyd)
}

// heldProofWentOn requires that the proof whose unwrap was delayed is the one that continued. A proof unwraps and
// then wraps, and no version has two proofs at once; so if keyd had dropped it, the next proof's unwrap would come
// first.
func heldProofWentOn(answered []request) error {
	isHeld := func(r request) bool { return r.Operation == "unwrap" && r.Delay > 0 }
	i := slices.IndexFunc(answered, isHeld)
	if i < 0 {
		return errors.New("no unwrap was held up")
	}
	held := answered[i]
	version := strings.TrimSuffix(held.Path, "/unwrapkey")
	for _, r := range answered[i+1:] {
		if r.Operation != "wrap" && r.Operation != "unwrap" || !strings.HasPrefix(r.Path, version) {
			continue
		}
		if r.Operation == "unwrap" || held.Status != 200 || r.Status != 200 {
			return fmt.Errorf("the proof was dropped: %+v was held up, and then came %+v", held, r)
		}
		return nil
	}
	return fmt.Errorf("the proof did not go on after %+v", held)
}

// proofs counts those of all keys, by outcome.
func (w *world) proofs(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(w.run(t, "curl", "-sSf", "http://127.0.0.1:9889/metrics")) {
		if !strings.HasPrefix(line, "keyd_proofs_total{") {
			continue
		}
		_, rest, _ := strings.Cut(line, `outcome="`)
		outcome, _, _ := strings.Cut(rest, `"`)
		var n float64
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		counts[outcome] += int(n)
	}
	return counts
}

func reloadBad(t *testing.T, w *world) {
	keyd := w.pid(t, "keyd")
	w.setConfig(t, "  third-key: {spec: RSA-2048, vaults: [nowhere]}\n  fourth-key: {speck: RSA-2048, vaults: ["+
		vaultName+"]}\n")
	if _, err := w.try("systemctl", "reload", "keyd"); err == nil {
		t.Error("systemctl reload exits 0")
	}
	for _, reason := range []string{"keyd.yaml:16:40: .*nowhere", "keyd.yaml:17:16: .*speck"} {
		w.tells(t, reason, "-u", "keyd")
	}
	if s, err := w.status(); err != nil || len(s.Keys) != 2 {
		t.Errorf("the old configuration does not go on: %+v, %v", s.Keys, err)
	}
	if state := w.unit(t, "keyd", "ActiveState"); state != "active" {
		t.Errorf("keyd is %s", state)
	}
	w.keydKept(t, keyd)
	w.setConfig(t, secondKey)
	w.run(t, "systemctl", "reload", "keyd")
	w.rotate(t)
	w.converged(t)
}
