package web

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	withTLS   = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
	withUsers = "basic_auth_users: {prometheus: \"" + scrapeHash + "\"}\n"
)

func TestOtherHostsNeedTLSAndUsers(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	path := filepath.Join(dir, "web.yaml")
	for _, test := range []struct{ name, text, reachable, local string }{
		{"empty", "", "it has no TLS", ""},
		{"without TLS", withUsers, "it has no TLS", ""},
		{"without users", withTLS, "it names no users", ""},
		{"with no user in the list", withTLS + "basic_auth_users: {}\n", "it names no users", ""},
		{"with TLS and users", withTLS + withUsers, "", ""},
		{"with proven clients", "tls_server_config: {cert_file: cert.pem, key_file: key.pem, " +
			"client_ca_file: cert.pem, client_auth_type: RequireAndVerifyClientCert}\n", "", ""},
		{"with clients whose authority it does not name",
			"tls_server_config: {cert_file: cert.pem, key_file: key.pem, " +
				"client_auth_type: RequireAndVerifyClientCert}\n", "it names no users", ""},
		{"with clients of any certificate", "tls_server_config: {cert_file: cert.pem, key_file: key.pem, " +
			"client_auth_type: RequireAnyClientCert}\n", "it names no users", ""},
		{"with an unknown field", "tls_server_confg: {}\n", "tls_server_confg", "tls_server_confg"},
		{"with a certificate that is missing", "tls_server_config: {cert_file: none.pem, key_file: key.pem}\n",
			"none.pem", "none.pem"},
		{"with a password instead of its hash", withTLS + "basic_auth_users: {prometheus: secret}\n", "hash", "hash"},
	} {
		write(t, path, test.text)
		for _, c := range []struct {
			reachable bool
			want      string
		}{{true, test.reachable}, {false, test.local}} {
			err := CheckFile(path, c.reachable)
			if c.want == "" && err == nil {
				continue
			}
			var wrong *FileError
			if c.want == "" || !errors.As(err, &wrong) || wrong.Remedy == "" ||
				!strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, reachable %v: %v, want %q", test.name, c.reachable, err, c.want)
			}
		}
	}
}

func TestAWebConfigurationThatOthersMayWriteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yaml")
	write(t, path, withUsers)
	for _, mode := range []fs.FileMode{0o660, 0o602} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var wrong *FileError
		if err := CheckFile(path, false); !errors.As(err, &wrong) || wrong.Remedy != "run chmod go-w "+path {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestAMissingWebConfigurationIsRefused(t *testing.T) {
	if err := CheckFile(filepath.Join(t.TempDir(), "web.yaml"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if err := CheckFile("", false); err != nil {
		t.Errorf("no file at all: %v", err)
	}
}

func TestNothingIsServedToOtherHostsOnceTheUsersAreGone(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	c := (&world{}).config(t)
	c.Listen = ":0"
	c.WebConfigFile = filepath.Join(dir, "web.yaml")
	write(t, c.WebConfigFile, withTLS+withUsers)
	_, port, err := net.SplitHostPort(serve(t, c))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	ask := func() answer {
		r, err := http.NewRequestWithContext(
			t.Context(),
			"GET",
			"https://"+net.JoinHostPort("127.0.0.1", port)+"/metrics",
			nil,
		)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("prometheus", "scrape")
		return do(t, client, r)
	}
	if a := ask(); a.code != http.StatusOK {
		t.Fatalf("with TLS and users: %d %s", a.code, a.body)
	}
	write(t, c.WebConfigFile, withTLS)
	if a := ask(); a.code != http.StatusServiceUnavailable || strings.Contains(a.body, "keyd_") {
		t.Errorf("without users: %d %s", a.code, a.body)
	}
}

func TestAListenerThatOtherHostsReachIsNotOpenedWithoutTLS(t *testing.T) {
	c := (&world{}).config(t)
	c.Listen = ":0"
	c.WebConfigFile = filepath.Join(t.TempDir(), "web.yaml")
	write(t, c.WebConfigFile, "")
	if s, err := New(c); err == nil {
		t.Error(s.Close())
	}
}
