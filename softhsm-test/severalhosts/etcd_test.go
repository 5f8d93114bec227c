package severalhosts

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/store/etcd"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// retention is the argument of the members that the page asks for.
const retention = "--auto-compaction-retention=1h"

func TestEtcdIsSetUpAsThePageSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(page)
	must(t, err)
	if want := "`--client-cert-auth`, and with `" + retention + "`"; !strings.Contains(string(text), want) {
		t.Fatalf("the page does not say %s", want)
	}
	members := etcdtest.Start(t, etcdtest.Options{Members: 3, TLS: true, Args: []string{retention}})
	var changes []change
	for i, url := range members.Endpoints() {
		changes = append(changes, change{fmt.Sprintf("https://etcd%d.example.com:2379", i+1), url, "the loopback"})
	}
	r, hq, admin := read(t, onEtcd), newHost(t, changes...), newHost(t, changes...)

	// The CA signs between the commands of this block.
	request, install := r.next("console").cut("# chown")
	hq.run(request)
	csr, err := os.ReadFile(hq.path("root/etcd.csr"))
	must(t, err)
	certificate, err := members.Authority.Sign(csr)
	must(t, err)
	hq.write(string(certificate), "root/etcd.pem")
	hq.write(string(members.Authority.PEM), "root/etcd-ca.pem")
	hq.run(install)

	admin.write(string(members.Authority.PEM), "root/etcd-ca.pem")
	certificate, key, err := members.Authority.Issue("admin")
	must(t, err)
	admin.write(string(certificate), "root/admin.pem")
	admin.write(string(key), "root/admin.key")
	admin.answers = "a-password\na-password\n"
	rights := r.next("console")
	admin.run(rights)

	hq.write(hq.here(alone+r.next("yaml").text), "etc/keyd/next/keyd.yaml")
	hq.run(r.next("console"))

	cfg, err := config.Load(hq.path("etc/keyd/next/keyd.yaml"))
	must(t, err)
	c := cfg.Store.Etcd
	good := etcd.Config{
		Endpoints:       c.Endpoints,
		Prefix:          c.Prefix,
		CertificateFile: c.CertificateFile,
		KeyFile:         c.KeyFile,
		CAFile:          c.CAFile,
	}
	t.Run("the store has nothing to see to", func(t *testing.T) {
		e, err := etcd.Open(t.Context(), good)
		must(t, err)
		defer e.Close()
		leads(t, e)
		if warnings, err := e.Warnings(t.Context()); err != nil || len(warnings) > 0 {
			t.Errorf("it warns of %q, %v", warnings, err)
		}
		hq.run(block{text: "# keyd store status --config /etc/keyd/next/keyd.yaml"})
	})
	t.Run("keyd's user may do no more than it needs", func(t *testing.T) {
		other := good
		other.Prefix = "/keyd/hq-2/"
		wantError(t, "another prefix", etcd.Init(t.Context(), other), "grant-permission")
		export, _ := rights.cut("$ etcdctl")
		export = export.with("admin.pem", "/etc/keyd/etcd.pem").with("admin.key", "/etc/keyd/etcd-key")
		for _, command := range []string{
			"get /keyd/hq-2/tip", "put /keyd/x y", "user list", "role list", "auth disable",
		} {
			if out, err := hq.try(block{text: export.text + "$ etcdctl " + command}); err == nil ||
				!strings.Contains(out, "permission denied") {
				t.Errorf("etcdctl %s: %v, %s", command, err, out)
			}
		}
	})
	t.Run("nobody else gets in", func(t *testing.T) {
		stranger := good
		stranger.CertificateFile, stranger.KeyFile = admin.path("root/admin.pem"), admin.path("root/admin.key")
		_, err := etcd.Open(t.Context(), stranger)
		wantError(t, "a certificate that is no user's", err, "permission denied")
		wantError(t, "and no store is made", etcd.Init(t.Context(), stranger), "permission denied")
	})
}
