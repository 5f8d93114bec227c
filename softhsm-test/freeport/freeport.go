// Package freeport finds addresses for programs that must be told where to listen. Its rule: nobody gets such a port by
// chance before its program listens there. So they are below the ports that Linux gives to connections, and to
// listeners that leave the choice to it (ip(7), ip_local_port_range).
package freeport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

const (
	first, last = 20_000, 32_000 // Linux begins with 32768
	tries       = 1000
)

// Addresses returns n different addresses of this host on which nobody listens.
func Addresses(n int) (addresses []string, err error) {
	var chosen []net.Listener // all are open until the last is chosen, so that none appears twice
	defer func() {
		for _, l := range chosen {
			err = errors.Join(err, l.Close())
		}
	}()
	for range tries {
		if len(chosen) == n {
			return addresses, nil
		}
		at := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		l, failed := (&net.ListenConfig{}).Listen(context.Background(), "tcp", at)
		if failed != nil {
			err = failed
			continue
		}
		chosen, addresses = append(chosen, l), append(addresses, at)
	}
	return nil, fmt.Errorf("find %d free ports from %d to %d: %w", n, first, last, err)
}
