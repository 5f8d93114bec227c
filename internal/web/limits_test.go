package web

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// stuck is a client that reads nothing.
type stuck struct {
	http.ResponseWriter
	reached chan<- struct{}
	end     <-chan struct{}
}

func (s stuck) Write(p []byte) (int, error) {
	s.reached <- struct{}{}
	<-s.end
	return len(p), nil
}

func TestSlowReadersDoNotBlockThePages(t *testing.T) {
	for _, path := range []string{"/", "/keys/sa-cmk-key", "/runbooks"} {
		c := (&world{snapshot: threeKeys()}).config(t)
		c.Logger = slog.New(slog.DiscardHandler)
		h := routes(c, newFeed())
		reached, end := make(chan struct{}), make(chan struct{})
		t.Cleanup(func() { close(end) })
		for range 2 * renders {
			go h.ServeHTTP(
				stuck{httptest.NewRecorder(), reached, end},
				httptest.NewRequest(http.MethodGet, path, nil),
			)
			select {
			case <-reached:
			case <-time.After(time.Minute):
				t.Fatalf("%s: a page was not made while others were sent", path)
			}
		}
	}
}

// Another user of this machine opens connections and says nothing on them.
func TestInsiderSilentConnectionsKeepNobodyFromScraping(t *testing.T) {
	s, err := New((&world{}).config(t))
	if err != nil {
		t.Fatal(err)
	}
	// Six rounds of the real limit would end them all, and are too late for Prometheus.
	s.http.ReadHeaderTimeout = time.Hour
	addr := run(t, s)
	var silent []net.Conn
	for range 6 * maxConnections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		silent = append(silent, conn)
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { late.Close() })
	if err := late.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := healthy(late, addr); err != nil {
		t.Errorf("with %d silent connections: %v", len(silent), err)
	}
}

// crowded is a crowd of connections by these, and what is still open of them.
func crowded(t *testing.T, most int, guests ...guest) (open []string) {
	t.Helper()
	c := newCrowd(nil, most)
	c.users = func(peers []netip.AddrPort) map[netip.AddrPort]string {
		users := map[netip.AddrPort]string{}
		for _, p := range peers {
			users[p] = fmt.Sprintf("uid %d", p.Port()/1000)
		}
		return users
	}
	for i := range guests {
		g := &guests[i]
		conn, other := net.Pipe()
		t.Cleanup(func() { conn.Close(); other.Close() })
		g.Conn, g.crowd = conn, c
		g.place = c.open.PushBack(g)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.thin()
	for e := c.open.Front(); e != nil; e = e.Next() {
		open = append(open, e.Value.(*guest).peer.String())
	}
	return open
}

func TestWhoeverHasTheMostConnectionsLosesTheSilentAndOldestOnes(t *testing.T) {
	at := func(peer string, busy bool) guest { return guest{peer: netip.MustParseAddrPort(peer), busy: busy} }
	for _, test := range []struct {
		name   string
		guests []guest
		open   []string
	}{
		{"a local user", []guest{
			at("127.0.0.1:1001", false), at("127.0.0.1:2001", false), at("[::1]:2002", false),
			at("127.0.0.1:2003", false), at("192.0.2.1:7", false),
		}, []string{"127.0.0.1:1001", "127.0.0.1:2003", "192.0.2.1:7"}},
		{"silent ones before busy ones", []guest{
			at("127.0.0.1:2001", true), at("127.0.0.1:2002", false), at("127.0.0.1:1001", false),
		}, []string{"127.0.0.1:2001", "127.0.0.1:1001"}},
		{"busy ones, if there are no others", []guest{
			at("127.0.0.1:2001", true), at("127.0.0.1:2002", true), at("127.0.0.1:1001", false),
		}, []string{"127.0.0.1:2002", "127.0.0.1:1001"}},
		{"a remote address", []guest{
			at("192.0.2.1:7", false), at("192.0.2.1:8", false), at("192.0.2.2:7", false),
		}, []string{"192.0.2.1:8", "192.0.2.2:7"}},
	} {
		if open := crowded(t, 2, test.guests...); !slices.Equal(open, test.open) {
			t.Errorf("%s: %q stay open, want %q", test.name, open, test.open)
		}
	}
}

func TestTheKernelTellsWhoIsBehindALocalConnection(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // a machine without IPv6
			continue
		}
		t.Cleanup(func() { l.Close() })
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		peer := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
		want := fmt.Sprintf("uid %d", os.Getuid())
		if got := localUsers([]netip.AddrPort{peer}); got[peer] != want || len(got) != 1 {
			t.Errorf("%s: %v, want %s", peer, got, want)
		}
	}
}

func FuzzReadUsers(f *testing.F) {
	f.Add("   0: 0100007F:1F90 0100007F:A1B2 01 0:0 00:0 0 1000 0 4242 1")
	f.Add("   0: 00000000000000000000000001000000:1F90 0:0 01 0:0 00:0 0 1000")
	f.Fuzz(func(t *testing.T, table string) {
		peer := netip.MustParseAddrPort("127.0.0.1:8080")
		users := map[netip.AddrPort]string{}
		readUsers(strings.NewReader(table), map[netip.AddrPort]bool{peer: true}, users)
		if len(users) > 1 || len(users) == 1 && !strings.HasPrefix(users[peer], "uid ") {
			t.Errorf("%v", users)
		}
	})
}

// healthy asks on a connection that stays open.
func healthy(conn net.Conn, addr string) error {
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		err = resp.Body.Close()
	}
	return err
}
