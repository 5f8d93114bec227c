package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/coreos/go-semver/semver"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// oldest are the first versions of their lines without the defects that lost what was committed.
var oldest = []semver.Version{{Major: 3, Minor: 4, Patch: 22}, {Major: 3, Minor: 5, Patch: 6}}

// tooOld says why a member's version is not good enough; nil if it is.
func tooOld(version string) error {
	v, err := semver.NewVersion(version)
	if err != nil {
		return fmt.Errorf("it says that it is etcd %q, which is no version", version)
	}
	for _, first := range oldest {
		if v.Major == first.Major && v.Minor == first.Minor && !v.LessThan(first) {
			return nil
		}
	}
	if newest := oldest[len(oldest)-1]; newest.LessThan(*v) && (v.Major > newest.Major || v.Minor > newest.Minor) {
		return nil
	}
	return fmt.Errorf("it is etcd %s, and keyd needs 3.4.22 or later, or 3.5.6 or later: earlier ones can lose what "+
		"they had confirmed", version)
}

// member is what one endpoint says about itself.
type member struct {
	host   string
	status *clientv3.StatusResponse
	err    error // it did not say anything
}

// members asks all endpoints at once.
func (e *Engine) members(ctx context.Context) []member {
	answers := make(chan member)
	for _, endpoint := range e.cfg.Endpoints {
		go func() {
			m := member{host: endpoint}
			if u, err := url.Parse(endpoint); err == nil {
				m.host = u.Host
			}
			t := &trip{}
			one, cancel := context.WithTimeout(context.WithValue(ctx, tripKey{}, t),
				min(4*glance, e.cfg.patience))
			defer cancel()
			if m.status, m.err = e.client.Status(one, endpoint); m.err != nil {
				m.err = t.why(ctx, m.err)
			}
			answers <- m
		}()
	}
	members := make([]member, len(e.cfg.Endpoints))
	for i := range members {
		members[i] = <-answers
	}
	return members
}

// checkMembers refuses a member that is too old, and members of several clusters. Warnings asks those again that do not
// answer.
func (e *Engine) checkMembers(ctx context.Context) error {
	const doing = "open the store"
	members := e.members(ctx)
	var silent []error
	for _, m := range members {
		if m.err != nil {
			silent = append(silent, fmt.Errorf("%s: %w", m.host, m.err))
		} else if err := tooOld(m.status.Version); err != nil {
			return e.failed(doing, fmt.Errorf("%s: %w", m.host, err), false)
		}
	}
	if len(silent) == len(members) {
		return e.failed(doing, errors.Join(silent...), false)
	}
	if err := oneCluster(members); err != nil {
		return e.failed(doing, err, false)
	}
	return nil
}

// oneCluster refuses endpoints of several clusters: keyd would write now to one and now to another.
func oneCluster(members []member) error {
	var first *member
	for _, m := range members {
		switch {
		case m.err != nil:
		case first == nil:
			first = &m
		case m.status.Header.ClusterId != first.status.Header.ClusterId:
			return fmt.Errorf("%s and %s are members of different clusters: name those of one", first.host, m.host)
		}
	}
	return nil
}
