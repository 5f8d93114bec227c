package config

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// People are the persons who have an account on several hosts: the uid of each, by the person's name and the host's.
type People map[string]map[string]uint32

// Of is who has a uid on a host; "" for nobody.
func (p People) Of(host string, uid uint32) string {
	for name, on := range p {
		if has, there := on[host]; there && has == uid {
			return name
		}
	}
	return ""
}

// hostNameForm is that of a host's name, with or without its domain.
var hostNameForm = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z._-]{0,251}[0-9A-Za-z])?$`)

const hostRemedy = "write a name that no other host of this instance has, such as hq-a"

// parseHost returns the name of a host in lower case.
func parseHost(s string) (string, error) {
	switch name := strings.ToLower(s); {
	case !hostNameForm.MatchString(s):
		return "", faultf(hostRemedy, "%q is not a host's name", s)
	case name == "localhost" || strings.HasPrefix(name, "localhost."):
		return "", faultf(hostRemedy, "every host is called %s", name)
	default:
		return name, nil
	}
}

// readHost reads the name of this host, which nothing needs where one host has the state and nobody is in people.
func readHost(top *section, needed bool) string {
	if !needed {
		if top.has("host") {
			top.rep.add(top.byName["host"].at, "remove it", "host has no meaning without people, and without a store "+
				"for several hosts")
		}
		return ""
	}
	name, err := os.Hostname()
	if err == nil {
		name, err = parseHost(name)
	}
	if err != nil && !top.has("host") {
		top.rep.addFault(top.at, "host", err)
		return ""
	}
	return read(top, "host", name, parseHost)
}

func readPeople(top *section) People {
	s := top.sub("people")
	people := People{}
	taken := map[string]map[uint32]string{} // by host and uid
	for _, f := range s.fields {
		if _, err := parseName(f.name); err != nil {
			s.rep.addFault(f.at, s.path, err)
			continue
		}
		if strings.Trim(f.name, "0123456789") == "" {
			s.rep.add(f.at, "write a person's name", "%s: %s would be taken for a uid", s.path, f.name)
			continue
		}
		people[f.name] = readPerson(s.sub(f.name), taken)
	}
	if len(people) == 0 {
		return nil
	}
	return people
}

// readPerson reads the uids of one person by host.
func readPerson(s *section, taken map[string]map[uint32]string) map[string]uint32 {
	if len(s.fields) == 0 {
		s.rep.add(s.at, "write HOST: UID for each host", "%s has a uid on no host", s.path)
	}
	on := map[string]uint32{}
	for _, f := range s.fields {
		host, err := parseHost(f.name)
		if err != nil {
			s.rep.addFault(f.at, s.path, err)
			continue
		}
		if _, twice := on[host]; twice {
			s.rep.add(f.at, "keep one of them", "%s has %s twice", s.path, host)
			continue
		}
		uid := read(s, f.name, 0, parseUID)
		if uid == 0 {
			continue
		}
		if other := taken[host][uid]; other != "" {
			s.rep.add(f.where(), "write each person's own uid", "%s: uid %d on %s is already that of %s",
				s.path, uid, host, other)
			continue
		}
		if taken[host] == nil {
			taken[host] = map[uint32]string{}
		}
		taken[host][uid] = strings.TrimPrefix(s.path, "people.")
		on[host] = uid
	}
	return on
}

// parseUID reads a uid that stands for one person, as that of root does not.
func parseUID(s string) (uint32, error) {
	uid, err := strconv.ParseUint(s, 10, 32)
	if err != nil || uid == 0 {
		return 0, faultf("write the uid as a number, as `id -u NAME` shows it on that host; root is nobody's own",
			"%q is not a person's uid", s)
	}
	return uint32(uid), nil
}

// readOperators reads who may act. A name in people stands for the person's uid on this host, where they have one.
func readOperators(c *Config, s *section) {
	parse := func(text string) (operator, error) {
		if _, known := c.People[text]; known {
			return operator{name: text}, nil
		}
		if c.Store.Shared() {
			return operator{}, faultf("write a name that is in people: people: {alice: {hq-a: 1000, hq-b: 1004}}",
				"%q may be another person on another host", text)
		}
		uid, err := parseUser(text)
		return operator{uid: uid}, err
	}
	var uids []uint32
	for _, o := range list(s, "operators", parse) {
		if o.value.name == "" {
			uids = append(uids, o.value.uid)
			continue
		}
		c.Control.OperatorNames = append(c.Control.OperatorNames, o.value.name)
	}
	c.setOperators(uids, c.Control.OperatorNames)
}

type operator struct {
	name string // in people; "": the uid counts
	uid  uint32
}

// setOperators has these act: uids of this host, and people, who need not have one.
func (c *Config) setOperators(uids []uint32, names []string) {
	c.Control.OperatorNames, c.Control.Operators = names, slices.Clone(uids)
	for _, name := range names {
		if uid, there := c.People[name][c.Host]; there {
			c.Control.Operators = append(c.Control.Operators, uid)
		}
	}
}

// operatorUIDs are the operators who are not in OperatorNames.
func (c *Config) operatorUIDs() (uids []uint32) {
	for _, uid := range c.Control.Operators {
		if !slices.Contains(c.Control.OperatorNames, c.People.Of(c.Host, uid)) {
			uids = append(uids, uid)
		}
	}
	return uids
}

// operatorsText names the operators as the audit chain states them: the same on every host.
func (c *Config) operatorsText() string {
	names := slices.Clone(c.Control.OperatorNames)
	for _, uid := range c.operatorUIDs() {
		names = append(names, strconv.FormatUint(uint64(uid), 10))
	}
	return asSet(names)
}

// onHosts says one person's uids as the audit chain states them: "hq-a 1000, hq-b 1004".
func onHosts(uids map[string]uint32) string {
	var on []string
	for _, host := range slices.Sorted(maps.Keys(uids)) {
		on = append(on, host+" "+strconv.FormatUint(uint64(uids[host]), 10))
	}
	return strings.Join(on, ", ")
}
