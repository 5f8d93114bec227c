package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

// etcd is a cluster of three members.
type etcd struct {
	cluster *etcdtest.Cluster
	proxies []*toxiproxy.Proxy
	disk    *disk
	next    int // the member that fails over next
}

func newEtcd(dir, address string) (e *etcd, err error) {
	e = &etcd{}
	if e.disk, err = newDisk(filepath.Join(dir, "etcd"), 700); err != nil {
		return e, err
	}
	e.cluster, err = etcdtest.Run(e.disk.dir, etcdtest.Options{Members: 3, TLS: true,
		Place: func(int) etcdtest.Place { return etcdtest.Place{Host: address} }})
	if err != nil {
		return e, err
	}
	for i, m := range e.cluster.Members {
		proxy, err := forward(fmt.Sprint("etcd ", i), address, strings.TrimPrefix(m.URL, "https://"))
		if err != nil {
			return e, err
		}
		e.proxies = append(e.proxies, proxy)
	}
	return e, nil
}

func (e *etcd) section() string {
	var ends []string
	for _, proxy := range e.proxies {
		ends = append(ends, fmt.Sprintf("%q", "https://"+proxy.Listen))
	}
	return fmt.Sprintf("etcd: {endpoints: [%s], ca_file: %s, certificate_file: %s, key_file: %s}",
		strings.Join(ends, ", "), e.cluster.Files.CA, e.cluster.Files.Certificate, e.cluster.Files.Key)
}

func (e *etcd) stop() error {
	for _, m := range e.cluster.Members {
		m.Stop()
	}
	return nil
}

func (e *etcd) start() (err error) {
	for _, m := range e.cluster.Members { // none is healthy before two are there
		err = errors.Join(err, m.Launch())
	}
	return errors.Join(err, e.healthy())
}

func (e *etcd) slow(by time.Duration) error { return slow(by, e.proxies...) }

// refuse leaves one member of three, which takes nothing alone.
func (e *etcd) refuse() error {
	for _, m := range e.cluster.Members[1:] {
		m.Pause()
	}
	return nil
}

func (e *etcd) take() error {
	for _, m := range e.cluster.Members[1:] {
		m.Continue()
	}
	return e.healthy()
}

func (e *etcd) fill() error { return e.disk.fill() }

// empty makes room, and starts the members that ended without any.
func (e *etcd) empty() error {
	err := e.disk.empty()
	for _, m := range e.cluster.Members {
		m.Kill()
	}
	return errors.Join(err, e.start())
}

// failOver kills one member after the other, so that also the one that decides is gone for a while.
func (e *etcd) failOver() error {
	m := e.cluster.Members[e.next%3]
	e.next++
	m.Kill()
	time.Sleep(2 * time.Second) // the others go on without it
	return m.Start()
}

func (e *etcd) healthy() error {
	return eventually("etcd is healthy", func() (bool, error) {
		for _, m := range e.cluster.Members {
			if !m.Healthy() {
				return false, nil
			}
		}
		return true, nil
	})
}

func (e *etcd) close() (err error) {
	if e.cluster != nil {
		e.cluster.Close()
	}
	for _, proxy := range e.proxies {
		proxy.Stop()
	}
	if e.disk != nil {
		err = e.disk.close()
	}
	return err
}
