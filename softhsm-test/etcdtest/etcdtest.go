// Package etcdtest runs etcd for tests: Debian's etcd-server, as one member or several, on free ports of the loopback
// and in a directory of its own. Its rule: each member is a real process, which a test can stop, kill, pause and start
// again; none of them outlives the test.
package etcdtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/softhsm-test/authority"
	"github.com/keyd-project/keyd/softhsm-test/freeport"
)

// Options say what the cluster is like. The zero value is one member that anybody on this host may use.
type Options struct {
	Members int      // 1 if it is 0
	TLS     bool     // each client needs a certificate of the cluster's CA
	Args    []string // further arguments of every member, such as --quota-backend-bytes=16777216
	// Place is where a member runs; nil: here, on the loopback.
	Place func(member int) Place
}

// Place is where a member runs.
type Place struct {
	Host    string   // the address that its clients and the other members use
	Command []string // what runs it, such as ip netns exec NAME; none: it runs here
}

// Cluster is a running etcd.
type Cluster struct {
	Members []*Member
	// Files are those of a client, and Authority made them. Both are set with Options.TLS.
	Files     Files
	Authority *authority.Authority

	dir    string
	client *tls.Config
}

// Files are what a client shows, and what it checks the members by.
type Files struct{ CA, Certificate, Key string }

// Start runs a cluster until the test is over. It fails the test if etcd is not installed.
func Start(tb testing.TB, o Options) *Cluster {
	tb.Helper()
	c, err := Run(tb.TempDir(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Run runs a cluster in an empty directory, until Close. All members answer when it returns.
func Run(dir string, o Options) (*Cluster, error) {
	o.Members = max(o.Members, 1)
	if o.Place == nil {
		o.Place = func(int) Place { return Place{Host: "127.0.0.1"} }
	}
	c := &Cluster{dir: dir}
	if err := c.plan(o); err != nil {
		return nil, err
	}
	for _, m := range c.Members {
		if err := m.Launch(); err != nil {
			c.Close()
			return nil, err
		}
	}
	for _, m := range c.Members {
		if err := m.ready(); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// plan decides each member's addresses, certificates and arguments.
func (c *Cluster) plan(o Options) error {
	free, err := freeport.Addresses(2 * o.Members)
	if err != nil {
		return err
	}
	scheme, secure := "http", []string(nil)
	var hosts []string
	for i := range o.Members {
		hosts = append(hosts, o.Place(i).Host)
	}
	if o.TLS {
		scheme = "https"
		if secure, err = c.certify(hosts); err != nil {
			return err
		}
	}
	var initial []string
	for i, host := range hosts {
		at := func(j int) string { return host + free[2*i+j][strings.LastIndexByte(free[2*i+j], ':'):] }
		m := &Member{Name: fmt.Sprintf("m%d", i+1), URL: scheme + "://" + at(0), peer: "http://" + at(1),
			cluster: c, command: o.Place(i).Command}
		m.data, m.log = filepath.Join(c.dir, m.Name), filepath.Join(c.dir, m.Name+".log")
		initial = append(initial, m.Name+"="+m.peer)
		c.Members = append(c.Members, m)
	}
	for _, m := range c.Members {
		m.args = append([]string{"--name", m.Name, "--data-dir", m.data, "--logger", "zap", "--log-outputs", "stderr",
			"--log-level", "warn", "--listen-client-urls", m.URL, "--advertise-client-urls", m.URL,
			"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer,
			"--initial-cluster", strings.Join(initial, ",")}, secure...)
		if o.Members == 1 { // it has nobody to lose an election to, and short leases are possible
			m.args = append(m.args, "--heartbeat-interval", "20", "--election-timeout", "200")
		}
		m.args = append(m.args, o.Args...)
	}
	return nil
}

// Endpoints are the URLs of all members for clients.
func (c *Cluster) Endpoints() (urls []string) {
	for _, m := range c.Members {
		urls = append(urls, m.URL)
	}
	return urls
}

// Close ends all members at once.
func (c *Cluster) Close() {
	for _, m := range c.Members {
		m.Kill()
	}
}

// Client is how a client of the cluster speaks TLS; nil without Options.TLS.
func (c *Cluster) Client() *tls.Config { return c.client.Clone() }

// tail is the end of a file, for an error.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// until asks until the answer is yes. The limit is only there so that a broken test ends.
func until(what string, ask func() (bool, error)) error {
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if yes, err := ask(); yes || err != nil {
			return err
		}
	}
	return errors.New("waited a minute until " + what)
}
