package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// Approvals says which acts need a second operator.
type Approvals struct {
	Acts []key.ActKind
	Wait time.Duration // a proposal ends after this time
}

// readApprovals reads which acts need a second operator.
func readApprovals(top *section) Approvals {
	s := top.sub("approvals")
	s.only("acts", "wait")
	var known []string
	for _, kind := range key.ActKinds {
		known = append(known, string(kind))
	}
	mistakes := len(s.rep.problems)
	a := Approvals{Wait: read(s, "wait", day, durationIn(time.Minute, 31*day))}
	for _, act := range list(s, "acts", oneOf(known...)) {
		kind := key.ActKind(act.value)
		if slices.Contains(a.Acts, kind) {
			s.rep.add(act.at, "remove one of them", "%s: %s is in it twice", s.name("acts"), kind)
			continue
		}
		a.Acts = append(a.Acts, kind)
	}
	if top.has("approvals") && len(a.Acts) == 0 && len(s.rep.problems) == mistakes {
		s.rep.add(s.whereOf("acts"), "write acts: [adopt, compromise], or remove approvals",
			"approvals: no act is listed, so none needs a second operator")
	}
	return a
}

// Approvers are the operators who can approve what another one asked for: neither root, whose login may not be known,
// nor the daemon's own user. Where there are people, only they can, by their names; otherwise these are uids.
func (c *Config) Approvers(self uint32) (approvers []string) {
	add := func(who string) {
		if who != "" && !slices.Contains(approvers, who) {
			approvers = append(approvers, who)
		}
	}
	for _, name := range c.Control.OperatorNames {
		add(name)
	}
	for _, uid := range c.operatorUIDs() {
		switch {
		case uid == 0 || uid == self:
		case len(c.People) > 0:
			add(c.People.Of(c.Host, uid))
		default:
			add(strconv.FormatUint(uint64(uid), 10))
		}
	}
	return approvers
}

// Digest is a digest of the files' names and contents; with a store for several hosts, where each has its own files, it
// is that of the settings that hosts share.
func (c *Config) Digest() string { return c.digest }

// digestOf is the digest of the files' names and contents.
func digestOf(sources []source) string {
	h := sha256.New()
	for _, src := range sources {
		fmt.Fprintf(h, "%d %s %d ", len(src.name), src.name, len(src.data))
		h.Write(src.data)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
