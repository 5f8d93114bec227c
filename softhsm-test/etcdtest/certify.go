package etcdtest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"

	"github.com/keyd-project/keyd/softhsm-test/authority"
)

// certify makes a CA, a certificate for all members and one for clients, and returns the members' arguments.
func (c *Cluster) certify(hosts []string) (args []string, err error) {
	if c.Authority, err = authority.New(); err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(c.dir, name) }
	c.Files = Files{CA: in("ca.pem"), Certificate: in("client.pem"), Key: in("client.key")}
	if err := os.WriteFile(c.Files.CA, c.Authority.PEM, 0o600); err != nil {
		return nil, err
	}
	if err := c.issue("etcd", in("server.pem"), in("server.key"), append(hosts, "localhost")...); err != nil {
		return nil, err
	}
	if err := c.issue("keyd", c.Files.Certificate, c.Files.Key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.Files.Certificate, c.Files.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Authority.PEM)
	c.client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return []string{"--client-cert-auth", "--trusted-ca-file", c.Files.CA, "--cert-file", in("server.pem"),
		"--key-file", in("server.key")}, nil
}

func (c *Cluster) issue(name, certFile, keyFile string, hosts ...string) error {
	cert, key, err := c.Authority.Issue(name, hosts...)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(certFile, cert, 0o600), os.WriteFile(keyFile, key, 0o600))
}
