package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// network has two bridges, one towards Azure and one towards the store. Each host has a link to both.
type network struct{ number int }

// lan is one of the two.
type lan int

const (
	azureLAN lan = 1
	storeLAN lan = 2
)

func (l lan) String() string {
	if l == azureLAN {
		return "az"
	}
	return "st"
}

func newNetwork(number int) (*network, error) {
	n := &network{number}
	for _, l := range []lan{azureLAN, storeLAN} {
		name := n.bridge(l)
		if err := ipAll("link add "+name+" type bridge", "addr add "+n.here(l)+"/24 dev "+name,
			"link set "+name+" up"); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// here is this process's address in a network, where Azure or the store is.
func (n *network) here(l lan) string              { return fmt.Sprintf("10.77.%d.1", 10*n.number+int(l)) }
func (n *network) bridge(l lan) string            { return fmt.Sprintf("%s%d", l, n.number) }
func (n *network) port(host string, l lan) string { return fmt.Sprintf("%s%d-%s", l, n.number, host) }
func (n *network) space(host string) string       { return fmt.Sprintf("host%d-%s", n.number, host) }

// join makes a host's namespace and its links.
func (n *network) join(host string, number int) error {
	space := n.space(host)
	if err := ipAll("netns add "+space, "-n "+space+" link set lo up"); err != nil {
		return err
	}
	for _, l := range []lan{azureLAN, storeLAN} {
		port := n.port(host, l)
		address := strings.TrimSuffix(n.here(l), "1") + fmt.Sprint(10+number)
		if err := ipAll("link add "+port+" type veth peer name "+l.String()+" netns "+space,
			"-n "+space+" addr add "+address+"/24 dev "+l.String(), "-n "+space+" link set "+l.String()+" up",
			"link set "+port+" up"); err != nil {
			return err
		}
	}
	return n.heal(host)
}

// cut takes a host off a network: what it sends disappears, and nothing tells it so.
func (n *network) cut(host string, l lan) error {
	return ip("link", "set", n.port(host, l), "nomaster")
}

// heal puts a host back on both networks.
func (n *network) heal(host string) error {
	for _, l := range []lan{azureLAN, storeLAN} {
		if err := ip("link", "set", n.port(host, l), "master", n.bridge(l)); err != nil {
			return err
		}
	}
	return nil
}

func ipAll(commands ...string) error {
	for _, c := range commands {
		if err := ip(strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
