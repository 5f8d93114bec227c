package vault

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// proxyRefusal is a proxy's answer other than 200 to CONNECT (RFC 9110 section 9.3.6).
// The request that needed the tunnel was certainly not sent.
type proxyRefusal struct {
	proxy  string // host and port, without user and password
	host   string // target of the tunnel
	status int
	wants  []string // schemes of Proxy-Authenticate, such as Basic
}

// refusedByProxy implements http.Transport.OnProxyConnectResponse.
func refusedByProxy(_ context.Context, proxy *url.URL, req *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	host, port, err := net.SplitHostPort(req.Host)
	if err != nil || port != "443" {
		host = req.Host
	}
	return &proxyRefusal{proxy: proxy.Host, host: oneLine(host), status: resp.StatusCode, wants: schemes(resp.Header)}
}

// schemes returns the authentication schemes that a proxy offers (RFC 9110 section 11.7.1).
func schemes(h http.Header) (names []string) {
	for _, challenge := range h.Values("Proxy-Authenticate") {
		name, _, _ := strings.Cut(oneLine(challenge), " ")
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (e *proxyRefusal) Error() string {
	text := fmt.Sprintf("the proxy %s refused to connect to %s: %d", e.proxy, e.host, e.status)
	if name := http.StatusText(e.status); name != "" {
		text += " " + name
	}
	return text
}

// fixed reports whether a second try would get the same answer.
func (e *proxyRefusal) fixed() bool { return e.status < 500 && e.status != http.StatusTooManyRequests }

func (e *proxyRefusal) hint() string {
	const direct = "where the host can be reached without the proxy, list it in NO_PROXY"
	switch {
	case e.status == http.StatusProxyAuthRequired && len(e.wants) > 0 && !e.takesBasic():
		return fmt.Sprintf("the proxy takes only %s, and keyd can sign in to a proxy only by Basic: "+
			"have the proxy admit this machine to %s without a password; %s",
			strings.Join(e.wants, ", "), e.host, direct)
	case e.status == http.StatusProxyAuthRequired:
		return "the proxy wants a user and a password, or did not accept them: " +
			"put them, percent-encoded, into HTTPS_PROXY of keyd's environment; " + direct
	case e.fixed():
		return fmt.Sprintf("have the proxy allow CONNECT to %s, port 443; %s", e.host, direct)
	}
	return fmt.Sprintf("the proxy itself does not get through to %s: its operator finds the reason in its log; "+
		"keyd tries again by itself; %s", e.host, direct)
}

func (e *proxyRefusal) takesBasic() bool {
	return slices.ContainsFunc(e.wants, func(name string) bool { return strings.EqualFold(name, "Basic") })
}
