// Package emulator emulates Azure on loopback: Key Vault, Managed HSM and the endpoints
// that issue tokens.
//
// Its one rule: the crypto is real, and it imports nothing from keyd, so that an
// accepted transfer blob was really unwrapped, and a mistake in keyd's code cannot hide
// in the emulator's.
//
// It is an HTTP(S) proxy with its own certificate authority. A client that honours
// HTTPS_PROXY and trusts that authority speaks to https://contoso-weu.vault.azure.net
// by its real name.
package emulator

import (
	"crypto/cipher"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyd-project/keyd/internal/emulator/arm"
)

// Emulator is a running emulator. Close it after use.
type Emulator struct {
	opts       Options
	log        *slog.Logger
	ca         *authority
	signer     *tokenSigner
	sealer     cipher.AEAD
	vaults     map[string]*Vault
	rules      *ruleBook
	limiter    *limiter
	journal    *journal // nil: memory only
	identities *identities
	hosted     *hosted
	attester   func() (*attester, error)
	consumers  *arm.Service
	logs       *Logs

	proxyAddr, adminAddr string
	tunnels              *tunnelListener
	servers              []*http.Server
	running              sync.WaitGroup
	done                 chan struct{}
	closeOnce            sync.Once

	requests *requestLog

	mu         sync.Mutex
	escapes    []string
	transports []*http.Transport
}

// Start listens on loopback and serves until Close.
func Start(opts Options) (*Emulator, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.TenantID == "" {
		opts.TenantID = DefaultTenantID
	}
	if opts.TokenLifetime == 0 {
		opts.TokenLifetime = 24 * time.Hour
	}
	if opts.ProxyListen == "" {
		opts.ProxyListen = "127.0.0.1:0"
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ca, err := authorityFor(opts)
	if err != nil {
		return nil, err
	}
	signer, err := newTokenSigner()
	if err != nil {
		return nil, err
	}
	sealer, err := newSealer()
	if err != nil {
		return nil, err
	}
	e := &Emulator{
		opts: opts, log: log, ca: ca, signer: signer, sealer: sealer,
		vaults:  map[string]*Vault{},
		rules:   newRuleBook(opts.Seed, opts.Now),
		limiter: newLimiter(),
		done:    make(chan struct{}),

		requests:   newRequestLog(requestsKept),
		logs:       newLogs(opts),
		identities: newIdentities(opts.Identities),
		hosted:     newHosted(opts.ArcKeyDir),
		attester:   sync.OnceValues(newAttester),
	}
	for _, c := range opts.Vaults {
		if err := e.addVault(c); err != nil {
			return nil, err
		}
	}
	if err := e.checkConsumers(); err != nil {
		return nil, err
	}
	if opts.StateFile != "" {
		if e.journal, err = openJournal(opts.StateFile, e.vaults); err != nil {
			return nil, err
		}
	}
	if err := e.listen(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	for _, a := range opts.AzureRoles {
		if err := e.consumers.Assign(a); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	e.startConsumers()
	return e, nil
}

func (e *Emulator) addVault(c VaultConfig) error {
	c.Host = strings.ToLower(c.Host)
	_, suffix, found := strings.Cut(c.Host, ".")
	if !found || suffix == "" || strings.Contains(c.Host, ":") {
		return fmt.Errorf("vault host %q: write a full DNS name without a port, such as contoso-weu.vault.azure.net",
			c.Host)
	}
	if _, ok := e.vaults[c.Host]; ok {
		return fmt.Errorf("vault host %q is given twice", c.Host)
	}
	if d := c.RecoverableDays; d != 0 && (d < minRecoverableDays || d > maxRecoverableDays) {
		return fmt.Errorf("vault %s keeps deleted keys for %d days: write from %d to %d",
			c.Host, d, minRecoverableDays, maxRecoverableDays)
	}
	v := newVault(c, e.opts)
	g, err := newGuard(c)
	if err != nil {
		return err
	}
	v.azure = func(principal, action, scope string) arm.Verdict {
		return e.consumers.MayUse(principal, action, scope)
	}
	v.guard, v.attester, v.sealer, v.signer = g, e.attester, e.sealer, e.signer.key
	if e.opts.ServiceLimits {
		v.limiter = e.limiter
	}
	e.vaults[c.Host] = v
	return nil
}

func (e *Emulator) listen() error {
	proxy, err := listenLoopback(e.opts.ProxyListen)
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	e.proxyAddr = proxy.Addr().String()
	e.tunnels = newTunnelListener(proxy.Addr())
	e.newConsumers()
	for _, extra := range []struct {
		name, listen string
		addr         *string
		handler      http.Handler
	}{
		{"admin", e.opts.AdminListen, &e.adminAddr, e.adminHandler()},
		{"identity", e.opts.IdentityListen, &e.hosted.addr, http.HandlerFunc(e.serveHosted)},
	} {
		if extra.listen == "" {
			continue
		}
		l, err := listenLoopback(extra.listen)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", extra.name, err), proxy.Close())
		}
		*extra.addr = l.Addr().String()
		e.serve(l, extra.handler)
	}
	e.serve(proxy, http.HandlerFunc(e.serveProxy)) // last: it reads the addresses
	e.serve(e.tunnels, http.HandlerFunc(e.serveTunnelled))
	return nil
}

// listenLoopback refuses an address that others could reach: the emulator's tokens and
// authority are worthless, but nobody must mistake it for a service.
func listenLoopback(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address %q is not loopback: use 127.0.0.1 or [::1]", addr)
	}
	return net.Listen("tcp", addr)
}

// serve runs one server. Close waits for each of its connection goroutines.
func (e *Emulator) serve(l net.Listener, h http.Handler) {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				e.running.Add(1)
			case http.StateClosed, http.StateHijacked:
				e.running.Done()
			}
		},
	}
	e.servers = append(e.servers, s)
	e.running.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			e.log.Error("emulator stopped serving", "address", l.Addr().String(), "error", err)
		}
	})
}

// ProxyURL is for HTTPS_PROXY and HTTP_PROXY: http://127.0.0.1:PORT.
func (e *Emulator) ProxyURL() string { return "http://" + e.proxyAddr }

// AdminURL is the admin endpoint's address, or "" when there is none.
func (e *Emulator) AdminURL() string {
	if e.adminAddr == "" {
		return ""
	}
	return "http://" + e.adminAddr
}

// CAPEM returns the authority's certificate in PEM, for a client's trust store.
func (e *Emulator) CAPEM() []byte { return slices.Clone(e.ca.pem) }

// Environ returns NAME=VALUE settings that direct a process's Azure traffic here.
// caFile must hold CAPEM; if it is not empty, Environ sets the variables by which Go,
// Node.js, Python's requests and curl trust an authority.
func (e *Emulator) Environ(caFile string) []string {
	p := e.ProxyURL()
	env := []string{
		"HTTPS_PROXY=" + p, "https_proxy=" + p,
		"HTTP_PROXY=" + p, "http_proxy=" + p,
		"NO_PROXY=", "no_proxy=",
	}
	if caFile != "" {
		for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} {
			env = append(env, name+"="+caFile)
		}
	}
	return env
}

// Transport is a client transport that goes through the proxy and trusts the
// authority. Close drops its idle connections.
func (e *Emulator) Transport() *http.Transport {
	pool := x509.NewCertPool()
	pool.AddCert(e.ca.cert)
	t := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: e.proxyAddr}),
		TLSClientConfig: &tls.Config{RootCAs: pool},
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.transports = append(e.transports, t)
	return t
}

// Vault returns a vault for inspection and manipulation; nil if the host is unknown.
func (e *Emulator) Vault(host string) *Vault { return e.vaults[strings.ToLower(host)] }

// Requests returns the last 65,536 requests, in the order of their answers.
func (e *Emulator) Requests() []RequestLog { return e.requests.all() }

// RequestsSince returns the requests from the n-th on, counted from 0, and the number of the next. A caller that asks
// often enough sees every request once; fewer requests than next-n say that it did not.
func (e *Emulator) RequestsSince(n uint64) (list []RequestLog, next uint64) {
	return e.requests.since(n)
}

// Escapes returns the hosts that a client tried to reach and the emulator does not
// emulate: calls that would have left the machine.
func (e *Emulator) Escapes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.escapes)
}

func (e *Emulator) escaped(host string) {
	e.log.Warn("refused a call to an unknown host", "host", host)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.escapes = append(e.escapes, host)
}

func (e *Emulator) record(l RequestLog) {
	e.log.Info("request", "method", l.Method, "host", l.Host, "path", l.Path, "operation", l.Operation, "status",
		l.Status)
	e.requests.add(l)
}

// Close stops everything and returns when no goroutine of the emulator is left.
func (e *Emulator) Close() error {
	var errs []error
	e.closeOnce.Do(func() {
		close(e.done)
		for _, s := range e.servers {
			errs = append(errs, s.Close())
		}
		e.mu.Lock()
		for _, t := range e.transports {
			t.CloseIdleConnections()
		}
		e.mu.Unlock()
	})
	e.running.Wait()
	errs = append(errs, e.hosted.forget())
	if e.journal != nil {
		errs = append(errs, e.journal.close())
	}
	return errors.Join(errs...)
}
