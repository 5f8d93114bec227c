package daemon

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/store/shared"
	"github.com/keyd-project/keyd/internal/store/storetest"
)

// onTwoHosts is a policy with people. Their logins are users of every host: daemon, bin, sys and sync.
const onTwoHosts = `instance: test
state_dir: %[1]s/state
host: %[2]s
store: {etcd: {endpoints: ["http://127.0.0.1:1"]}}
people:
  Anna: {host-a: 1, host-b: 2}
  Bob: {host-a: 2, host-b: 3}
hsm: {module: /usr/lib/softhsm/libsofthsm2.so, token: keyd, pin_file: hsm-pin}
azure: {credential: managed-identity}
vaults:
  weu: {url: ` + weuURL + `}
keys:
  one: {vaults: [weu], consumers: none, retire: {disable_after: 8760h}}
control: {socket: %[1]s/keyd.sock, operators: [Anna, Bob]}
approvals: {acts: [kek]}
web: {listen: "127.0.0.1:0"}
`

// peopleOnTwoHosts are two daemons on one store, with files of the same policy.
func peopleOnTwoHosts(t *testing.T) (hosts []*Daemon, paths []string) {
	t.Helper()
	engine := storetest.NewMemory(time.Now)
	for _, name := range []string{"host-a", "host-b"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "keyd.yaml")
		write(t, path, fmt.Sprintf(onTwoHosts, dir, name))
		d, err := buildOn(Options{ConfigPath: path, Version: "1.2.3", Logger: slog.New(slog.DiscardHandler),
			HSMCommand: []string{"false"}}, load(t, path), func(reg prometheus.Registerer) (Store, error) {
			return shared.Open(t.Context(), engine, shared.Options{Dir: t.TempDir(), Host: name, Now: time.Now,
				Registerer: reg})
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.store.Close() })
		started(t, d)
		hosts, paths = append(hosts, d), append(paths, path)
	}
	return hosts, paths
}

// loggedIn is somebody who logged in under their own user.
func loggedIn(uid uint32, name, host string) control.Actor {
	return control.Actor{UID: uid, Name: name, Login: name, Host: host}
}

func TestWhatAPersonAsksOnOneHostAnotherApprovesOnAnother(t *testing.T) {
	hosts, paths := peopleOnTwoHosts(t)
	a, b := hosts[0], hosts[1]
	for _, path := range paths {
		edit(t, path, "disable_after: 8760h", "disable_after: 8000h")
	}
	asks := loggedIn(1, "daemon", "host-a")
	wantProposed(t, a.Reload(as(t, asks), asks.String()))
	wantProposed(t, b.Reload(t.Context(), "signal"))
	p := waiting(t, b)
	for why, who := range map[string]control.Actor{
		"another person must approve": loggedIn(2, "bin", "host-b"),
		"may ask, and not approve":    loggedIn(4, "sync", "host-b"),
	} {
		wantRefused(t, why, b.Approve(as(t, who), p.ID, "it is fine"))
	}
	if err := b.Approve(as(t, loggedIn(3, "sys", "host-b")), p.ID, "Anna called me"); err != nil {
		t.Fatal(err)
	}
	if text := b.config().Guarded()["one"]["keys.retire"]; !strings.Contains(text, "8000h") {
		t.Errorf("keyd acts on %s", text)
	}
	if list := a.proposals(t.Context(), nil); len(list) > 0 {
		t.Errorf("%+v wait", list)
	}
}
