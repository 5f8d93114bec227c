package etcd

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestAnEtcdThatNobodyCompactsIsWarnedOf(t *testing.T) {
	e := open(t, fresh(t, running))
	const history = 20
	e.history = history
	var revision int64
	for i := range history + 1 {
		r, err := e.client.Put(t.Context(), e.key("other"), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		revision = r.Header.Revision
	}
	wantWarning(t, e, "keeps a history of more than 20 changes")
	if _, err := e.client.Compact(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	if w, err := e.Warnings(t.Context()); err != nil || len(w) > 0 {
		t.Errorf("warnings after a compaction: %q, %v", w, err)
	}
}

func TestHalfAQuotaIsWarnedOf(t *testing.T) {
	for _, c := range []struct{ size, told, configured, warnings int64 }{
		{49, 0, 100, 0}, {50, 0, 100, 1}, {49, 100, 1, 0}, {50, 100, 1000, 1}, // etcd tells its quota from 3.6 on
	} {
		e := &Engine{cfg: Config{Quota: c.configured}}
		s := &clientv3.StatusResponse{Version: "3.5.6", Leader: 1, DbSize: c.size, DbSizeQuota: c.told}
		if w := e.ofMember(member{host: "db1:2379", status: s}); int64(len(w)) != c.warnings {
			t.Errorf("%+v: %q", c, w)
		}
	}
}

func TestWhatAMemberLacksIsWarnedOf(t *testing.T) {
	e := &Engine{cfg: Config{Quota: 100}}
	type said = clientv3.StatusResponse
	for want, m := range map[string]member{
		"db1:2379: it does not answer: gone": {err: errors.New("gone")},
		"db1:2379: it is etcd 3.4.3":         {status: &said{Version: "3.4.3", Leader: 1}},
		"db1:2379: it sees no leader":        {status: &said{Version: "3.5.6"}},
		"db1:2379: it is a learner":          {status: &said{Version: "3.5.6", Leader: 1, IsLearner: true}},
	} {
		m.host = "db1:2379"
		if w := e.ofMember(m); len(w) != 1 || !strings.Contains(w[0], want) {
			t.Errorf("%q, want %q", w, want)
		}
	}
}
