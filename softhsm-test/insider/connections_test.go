package insider_test

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// connections are attacks that keep the others out.
func connections() []attack {
	return []attack{
		{"a thousand connections, which leave nothing for later", func(w *world) string {
			for range 1000 {
				conn := w.dial()
				defer conn.Close()
			}
			return ""
		}},
		{"a long request of a call that there is not", func(w *world) string {
			return w.kept("\x00\x0f\xff\xff\x00\x00\x03\xe8\x00\x05Other")
		}},
		{"a long request of a short call", func(w *world) string {
			return w.kept("\x00\x0f\xff\xff\x00\x00\x03\xe8\x00\x08Describe")
		}},
		{"a request that never ends", func(w *world) string { return w.kept("\x00\x00\x00\x40\x00\x00") }},
		{"a megabyte of log from one request", func(w *world) string {
			before := len(w.logs.String())
			conn := w.dial()
			defer conn.Close()
			_, _ = conn.Write([]byte("\x00\x0f\xff\xff\x00\x00\x03\xe8\x00\xff" + strings.Repeat("x", 1<<20)))
			_, _ = conn.Read(make([]byte, 1))
			if grown := len(w.logs.String()) - before; grown > 4<<10 {
				return fmt.Sprintf("%d bytes of log", grown)
			}
			return ""
		}},
	}
}

func (w *world) dial() net.Conn {
	w.Helper()
	conn, err := net.Dial("unix", w.path("hsm.sock"))
	if err != nil {
		w.Fatal(err)
	}
	return conn
}

// kept begins a request and waits until the HSM side gives the connection up.
func (w *world) kept(begin string) string {
	w.Helper()
	conn := w.dial()
	defer conn.Close()
	if _, err := conn.Write([]byte(begin)); err != nil {
		w.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		return fmt.Sprintf("a connection that stays open: %d bytes, %v", n, err)
	}
	return ""
}
