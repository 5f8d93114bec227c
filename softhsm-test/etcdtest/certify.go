package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certify makes a CA, a certificate for all members and one for clients, and returns the members' arguments.
func (c *Cluster) certify(hosts []string) (args []string, err error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	in := func(name string) string { return filepath.Join(c.dir, name) }
	c.Files = Files{CA: in("ca.pem"), Certificate: in("client.pem"), Key: in("client.key")}
	if err := writePEM(c.Files.CA, "CERTIFICATE", ca.cert.Raw); err != nil {
		return nil, err
	}
	if err := ca.issue("etcd", append(hosts, "localhost"), in("server.pem"), in("server.key")); err != nil {
		return nil, err
	}
	if err := ca.issue("keyd", nil, c.Files.Certificate, c.Files.Key); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.Files.Certificate, c.Files.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	c.client = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{pair}}
	return []string{"--client-cert-auth", "--trusted-ca-file", c.Files.CA, "--cert-file", in("server.pem"),
		"--key-file", in("server.key")}, nil
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// template is a certificate as all of them are here.
func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func newAuthority() (a authority, err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return a, err
	}
	t := template("a test's CA")
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, a.key.Public(), a.key)
	if err != nil {
		return a, err
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}

func (a authority) issue(name string, hosts []string, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := template(name)
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(certFile, "CERTIFICATE", der); err != nil {
		return err
	}
	return writePEM(keyFile, "PRIVATE KEY", private)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
