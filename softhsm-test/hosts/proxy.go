package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// forward takes connections at an address of this process, on a free port, and passes them on.
func forward(name, address, upstream string) (*toxiproxy.Proxy, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	p := toxiproxy.NewProxy(server, name, address+":0", upstream)
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("forward %s: %w", name, err)
	}
	return p, nil
}

// slow delays every answer by so long; 0: none.
func slow(by time.Duration, proxies ...*toxiproxy.Proxy) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, p := range proxies {
		p.Toxics.ResetToxics(ctx)
		if by == 0 {
			continue
		}
		toxic := fmt.Sprintf(
			`{"type":"latency","stream":"downstream","attributes":{"latency":%d}}`,
			by.Milliseconds(),
		)
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
			return err
		}
	}
	return nil
}
