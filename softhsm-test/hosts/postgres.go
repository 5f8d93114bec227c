package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/keyd-project/keyd/softhsm-test/freeport"
	"github.com/keyd-project/keyd/softhsm-test/postgrestest"
)

const database = "keyd"

// postgres is a primary with a synchronous standby, at two of three places that the hosts' URL names.
type postgres struct {
	places  []string // addresses
	proxies []*toxiproxy.Proxy
	used    []*postgrestest.Server // by place; nil: none is there
	primary int                    // its place
	standby int
	ca      string
	cert    []byte
	key     []byte
	disk    *disk
	names   int // of standbys
}

func newPostgres(dir, address string) (p *postgres, err error) {
	p = &postgres{used: make([]*postgrestest.Server, 3), ca: filepath.Join(dir, "postgres-ca.pem"), standby: 1}
	if p.cert, p.key, err = selfSigned(address); err != nil {
		return p, err
	}
	if err := os.WriteFile(p.ca, p.cert, 0o600); err != nil {
		return p, err
	}
	free, err := freeport.Addresses(3)
	if err != nil {
		return p, err
	}
	for i, at := range free {
		p.places = append(p.places, address+at[strings.LastIndexByte(at, ':'):])
		proxy, err := forward(fmt.Sprint("postgres ", i), address, p.places[i])
		if err != nil {
			return p, err
		}
		p.proxies = append(p.proxies, proxy)
	}
	if p.disk, err = newDisk(filepath.Join(dir, "postgres"), 400); err != nil {
		return p, err
	}
	if p.used[0], err = postgrestest.Create(p.options(0)); err != nil {
		return p, err
	}
	if err := p.used[0].Run(); err != nil {
		return p, err
	}
	if _, err := p.used[0].SQL("postgres", "CREATE ROLE keyd LOGIN IN ROLE pg_read_all_stats"); err != nil {
		return p, err
	}
	if _, err := p.used[0].SQL("postgres", "CREATE DATABASE "+database+" OWNER keyd"); err != nil {
		return p, err
	}
	return p, p.follow(1)
}

// options are those of a server at a place.
func (p *postgres) options(place int) postgrestest.Options {
	return postgrestest.Options{Address: p.places[place], Certificate: p.cert, Key: p.key}
}

// follow makes a synchronous standby at a place.
func (p *postgres) follow(place int) (err error) {
	p.names++
	name := fmt.Sprint("s", p.names)
	if p.used[place], err = p.used[p.primary].CreateStandby(name, p.options(place)); err != nil {
		return err
	}
	if err := p.used[place].Run(); err != nil {
		return err
	}
	p.standby = place
	return p.used[p.primary].Synchronise(name, 1)
}

func (p *postgres) section() string {
	var hosts []string
	for _, proxy := range p.proxies {
		hosts = append(hosts, proxy.Listen)
	}
	return fmt.Sprintf("postgres: {url: \"postgres://keyd@%s/%s?target_session_attrs=read-write\", ca_file: %s}",
		strings.Join(hosts, ","), database, p.ca)
}

func (p *postgres) stop() error {
	return errors.Join(p.used[p.primary].Stop(), p.used[p.standby].Stop())
}

func (p *postgres) start() error {
	return errors.Join(p.used[p.primary].Run(), p.used[p.standby].Run())
}

func (p *postgres) slow(by time.Duration) error { return slow(by, p.proxies...) }

func (p *postgres) refuse() error { return p.used[p.primary].Set("default_transaction_read_only = on") }
func (p *postgres) take() error   { return p.used[p.primary].Set("default_transaction_read_only = off") }
func (p *postgres) fill() error   { return p.disk.fill() }
func (p *postgres) empty() error {
	err := p.disk.empty()
	if _, ask := p.used[p.primary].SQL("postgres", "SELECT 1"); ask != nil { // without room it may end
		err = errors.Join(err, p.used[p.primary].Crash(), p.used[p.primary].Run())
	}
	if _, ask := p.used[p.standby].SQL("postgres", "SELECT 1"); ask != nil {
		err = errors.Join(err, p.used[p.standby].Crash(), p.used[p.standby].Run())
	}
	return err
}

// failOver kills the primary and promotes its standby, which gets a standby of its own.
func (p *postgres) failOver() error {
	old := p.primary
	if err := p.used[old].Crash(); err != nil {
		return err
	}
	return errors.Join(p.promote(), p.drop(old))
}

// promote promotes the standby, whatever the primary does, and gives it a standby of its own.
func (p *postgres) promote() error {
	free := 3 - p.primary - p.standby
	if err := p.used[p.standby].Promote(); err != nil {
		return err
	}
	p.primary = p.standby
	if err := p.used[p.primary].Set("synchronous_standby_names = ''"); err != nil {
		return err
	}
	return p.follow(free)
}

// drop removes the server at a place.
func (p *postgres) drop(place int) error {
	s := p.used[place]
	p.used[place] = nil
	return s.Remove()
}

func (p *postgres) close() (err error) {
	for _, s := range p.used {
		if s != nil {
			err = errors.Join(err, s.Remove())
		}
	}
	for _, proxy := range p.proxies {
		proxy.Stop()
	}
	if p.disk != nil {
		err = errors.Join(err, p.disk.close())
	}
	return err
}

// selfSigned is a certificate for an address that is its own authority.
func selfSigned(address string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.ParseIP(address)}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), err
}
