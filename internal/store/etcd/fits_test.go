package etcd

import (
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/store/stored"
	"github.com/keyd-project/keyd/softhsm-test/etcdtest"
)

func TestHowManyKeysAndYearsFit(t *testing.T) {
	for _, c := range []struct {
		quota int64
		g     Growth
		want  int64
	}{
		{2 << 30, Growth{1024, 1024}, 1024}, {2 << 30, Growth{1 << 30, 1}, 1}, {2 << 30, Growth{2 << 30, 1}, 0},
		{2 << 30, Growth{0, 1}, 0}, {2 << 30, Growth{1, 0}, 0},
	} {
		if got := Fits(c.quota, c.g); got != c.want {
			t.Errorf("%+v in %d: %d, want %d", c.g, c.quota, got, c.want)
		}
	}
}

// A save of a record of 4 kB with two entries is what keyd mostly does. Run with -v, it prints what fits.
func TestHowMuchAnEntryTakes(t *testing.T) {
	t.Parallel()
	in := etcdtest.Start(t, etcdtest.Options{})
	e := open(t, fresh(t, in))
	size := func() int64 { // of what is left after a compaction
		t.Helper()
		r, err := e.client.Get(t.Context(), e.key("format"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.client.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
		if _, err := e.client.Defragment(t.Context(), in.Members[0].URL); err != nil {
			t.Fatal(err)
		}
		s, err := e.client.Status(t.Context(), in.Members[0].URL)
		if err != nil {
			t.Fatal(err)
		}
		return s.DbSizeInUse
	}
	before := size()
	const saves = 300
	var at stored.Tip
	var was stored.Head
	fields := strings.Repeat("0123456789abcdef", 16)
	for i := range saves {
		c := noting(t, at, chain.Event(fields), 2)
		at = ends(c)
		r := stored.NewRecord("k", at.Seq, []byte(strings.Repeat(fmt.Sprintf("%08d", i), 500)))
		c.Records = []stored.Changed{{Name: "k", Was: was, Value: r.Encode()}}
		commit(t, e, c)
		was = r.Head
	}
	perEntry := (size() - before) / (2 * saves)
	if least := int64(len(fields)); perEntry < least || perEntry > 8*least {
		t.Errorf("an entry of more than %d bytes takes %d", least, perEntry)
	}
	t.Log(Growth{Bytes: perEntry, Entries: 100}.Sentence(DefaultQuota))
	said, err := e.Room(t.Context(), 100)
	if err != nil || !strings.Contains(said, "100 entries a key and year, half of a quota of 2048 MiB holds") {
		t.Errorf("%q, %v", said, err)
	}
	t.Log(said)
}
