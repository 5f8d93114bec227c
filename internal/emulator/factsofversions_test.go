package emulator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// versionlessClientsBreak: a client that names no version can do nothing more, although the earlier version is
// enabled; a client that names the earlier version can.
func versionlessClientsBreak(t *testing.T) {
	t.Helper()
	w := newWorld(t)
	for _, host := range []string{premium, managedHSM} {
		old := w.create(host, "k", rsaHSM)
		made := w.using(host, "k")
		newest := w.create(host, "k", rsaHSM)
		w.do("PATCH", host, "/keys/k/"+newest, `{"attributes":{"enabled":false}}`)
		for _, replies := range []map[string]reply{w.using(host, "k"), w.opening(host, "k", made)} {
			for _, r := range replies {
				r.is(t, 403, "Forbidden", "KeyDisabled")
			}
		}
		if r := w.do("POST", host, "/keys/k/"+old+"/wrapkey", `{"alg":"RSA-OAEP-256","value":"AA"}`); r.status != 200 {
			t.Errorf("%s, the version before: %s", host, r.text)
		}
	}
}

// followingServicesStop: a service that follows the key stays on the earlier version and says why, and no service can
// begin to use the key. Pinned ones do not notice.
func followingServicesStop(t *testing.T) {
	t.Helper()
	s := newEstate(t, emulator.Options{})
	v1 := s.rotate()
	s.make("storage=st,key=KEY", "cosmos=db,key=KEY", "disk=des,key=KEY", "storage=stpin,key=KEY/VERSION",
		"ai=ai,key=KEY")
	s.write("st", "db", "des", "stpin", "ai")
	v2 := s.rotate()
	s.enable(v2, false)
	s.later(24 * time.Hour)
	for name, follows := range map[string]bool{"st": true, "db": true, "des": true, "stpin": false, "ai": false} {
		r := s.report(name)
		if r.InUse != cmkURL+"/"+v1 || strings.Contains(r.Trouble, "disabled") != follows {
			t.Errorf("%s uses %s, and its trouble is %q", name, r.InUse, r.Trouble)
		}
	}
	s.wantReadable()
	for _, spec := range []string{"storage=new,key=KEY", "cosmos=newdb,key=KEY", "disk=newdes,key=KEY"} {
		if err := s.makeEarly(spec); err == nil || !strings.Contains(err.Error(), "disabled") {
			t.Errorf("%s: %v", spec, err)
		}
	}
	s.enable(v2, true)
	s.later(24 * time.Hour)
	s.wantInUse(map[string]string{"st": v2, "db": v2})
}
