package main

import (
	"time"

	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// hosts is one of three hosts, of which another leads.
func hosts() status.Snapshot {
	s := empty()
	s.Ready = true
	s.Hosts = &status.Hosts{Here: "hq-b", Leader: "hq-a", Epoch: 7, Since: at(-3 * time.Hour),
		Age: status.Seconds(2 * time.Second), Hosts: []status.Host{
			{Name: "hq-a", Version: "v1.0.0", Alive: true, SaysLeads: true, Head: 812},
			{Name: "hq-b", Version: "v1.0.0", Alive: true, Head: 812, OtherConfig: true},
			{Name: "hq-c", Version: "v1.0.0", Age: status.Seconds(5 * time.Minute), Head: 790},
		}}
	s.Problems = trouble.Find(s, trouble.Evidence{})
	return s
}
