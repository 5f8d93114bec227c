package freeport

import (
	"net"
	"slices"
	"testing"
)

func TestEachAddressIsFreeAndNotAmongThoseThatLinuxGives(t *testing.T) {
	addresses, err := Addresses(20)
	if err != nil || len(addresses) != 20 {
		t.Fatalf("%q, %v", addresses, err)
	}
	slices.Sort(addresses)
	if len(slices.Compact(slices.Clone(addresses))) != 20 {
		t.Errorf("an address appears twice: %q", addresses)
	}
	for _, address := range addresses {
		at, err := net.ResolveTCPAddr("tcp", address)
		if err != nil || !at.IP.IsLoopback() || at.Port < first || at.Port >= last {
			t.Errorf("%s: %v", address, err)
		}
	}
	l, err := net.Listen("tcp", addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
