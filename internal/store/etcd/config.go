package etcd

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
)

// DefaultQuota is the size of etcd's database at which it takes no more writes, unless it is told another.
const DefaultQuota = 2 << 30

// Config says where the store is and who keyd is there.
type Config struct {
	Endpoints       []string // https://HOST:PORT; http only on the loopback
	Prefix          string   // of all keys: begins and ends with "/"
	User            string   // "": etcd knows keyd by the name in its certificate
	PasswordFile    string   // of the user
	CertificateFile string   // what keyd shows; read again for each connection
	KeyFile         string
	CAFile          string // whom keyd believes; "": the system's authorities
	Quota           int64  // of etcd's database, in bytes, where etcd does not tell; 0: DefaultQuota

	// A test's.
	dial     []grpc.DialOption
	patience time.Duration // 0: as patience says
}

// inner are the first names of keyd's keys under a prefix. No prefix may have one of them as a part: then no store
// can lie in another one's keys.
var inner = []string{"entry", "head", "record", "blob", "void"}

// Check returns what is wrong with a configuration.
func (c Config) Check() error {
	if len(c.Endpoints) == 0 {
		return errors.New("etcd: no endpoints: name each member's URL, such as https://db1:2379")
	}
	plain := 0
	for _, endpoint := range c.Endpoints {
		u, err := url.Parse(endpoint)
		switch {
		case err != nil || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "":
			return errors.New("etcd: an endpoint is not a URL such as https://db1:2379")
		case u.Scheme == "http" && loopback(u.Hostname()):
			plain++
		case u.Scheme != "https":
			return fmt.Errorf("etcd: endpoint %s: write https://; only the loopback does without TLS", u.Host)
		}
	}
	if plain > 0 && plain < len(c.Endpoints) { // etcd's client does as the first one says, for all of them
		return errors.New("etcd: some endpoints are http:// and others https://: use one of them for all")
	}
	if (c.CertificateFile == "") != (c.KeyFile == "") {
		return errors.New("etcd: a certificate needs certificate_file and key_file")
	}
	if (c.User == "") != (c.PasswordFile == "") {
		return errors.New("etcd: a user needs user and password_file")
	}
	return checkPrefix(c.Prefix)
}

func checkPrefix(prefix string) error {
	if len(prefix) < 3 || prefix[0] != '/' || prefix[len(prefix)-1] != '/' {
		return fmt.Errorf("etcd: prefix %q: it begins and ends with /, such as /keyd/hq-1/", prefix)
	}
	for _, part := range strings.Split(prefix[1:len(prefix)-1], "/") {
		if part == "" || slices.Contains(inner, part) {
			return fmt.Errorf("etcd: prefix %q: no part of it may be empty or one of %s", prefix,
				strings.Join(inner, ", "))
		}
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// onLoopback reports whether nobody but this host reaches any of the endpoints.
func (c Config) onLoopback() bool {
	return !slices.ContainsFunc(c.Endpoints, func(endpoint string) bool {
		u, err := url.Parse(endpoint)
		return err != nil || !loopback(u.Hostname())
	})
}

// hosts names the endpoints, for errors.
func (c Config) hosts() string {
	hosts := make([]string, len(c.Endpoints))
	for i, endpoint := range c.Endpoints {
		_, hosts[i], _ = strings.Cut(strings.TrimSuffix(endpoint, "/"), "://")
	}
	return strings.Join(hosts, ",")
}

// tls is how keyd speaks TLS; nil where it does without.
func (c Config) tls() (*tls.Config, error) {
	if strings.HasPrefix(c.Endpoints[0], "http://") {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("etcd: read ca_file: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("etcd: ca_file %s has no certificate in PEM", c.CAFile)
		}
	}
	if c.CertificateFile == "" {
		return t, nil
	}
	if _, err := c.pair(); err != nil {
		return nil, err
	}
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.pair() }
	return t, nil
}

func (c Config) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.CertificateFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("etcd: read certificate_file and key_file: %w", err)
	}
	return &pair, nil
}

// password reads the user's password: the file without one newline at its end.
func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("etcd: read password_file: %w", err)
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) == 0 {
		return "", fmt.Errorf("etcd: password_file %s is empty", c.PasswordFile)
	}
	return string(text), nil
}
