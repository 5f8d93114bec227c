package daemon

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/rotate"
	"github.com/keyd-project/keyd/internal/status"
	"github.com/keyd-project/keyd/internal/trouble"
)

// shown is what a leader publishes, so that its followers have something true to show.
type shown struct {
	Snapshot  status.Snapshot   `json:"snapshot"`
	Revisions map[string]uint64 `json:"revisions"` // of the keys' records
	// Concerns and Holds are those of the snapshot's problems, which a snapshot as JSON does not have.
	Concerns [][]string  `json:"concerns"`
	Holds    []*key.Hold `json:"holds"`
}

const (
	// shownName is the status under which a leader publishes.
	shownName = "shown"
	// publishPause is the shortest time between two publications, and publishEvery the longest.
	publishPause = 5 * time.Second
	publishEvery = time.Minute
	// publishRate bounds what is published, in bytes a second on average: etcd keeps each version until somebody
	// compacts it.
	publishRate = 4 << 10
	// mostShown bounds what a follower unpacks, in bytes.
	mostShown = 256 << 20
)

// publish keeps what the followers show up to date, until ctx ends.
func (d *Daemon) publish(ctx context.Context) {
	failed := false
	for {
		size, err := d.publishNow(ctx)
		if err != nil && !failed && ctx.Err() == nil {
			d.log.Warn("what the other hosts show could not be published, and keyd tries again", "error", err.Error())
		}
		failed = err != nil
		if !sleep(ctx, max(publishPause, time.Duration(size)*time.Second/publishRate)) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-d.news:
		case <-time.After(publishEvery - publishPause):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// publishNow publishes what there is to show, and returns how many bytes that takes.
func (d *Daemon) publishNow(ctx context.Context) (size int, err error) {
	select {
	case <-d.news: // what changes from here on is for the next time
	default:
	}
	revisions, err := d.store.Revisions(ctx) // before the look, so that a later change counts as one
	if err != nil {
		return 0, err
	}
	x := shown{Snapshot: d.overview(ctx), Revisions: revisions}
	for _, p := range x.Snapshot.Problems {
		x.Concerns, x.Holds = append(x.Concerns, p.Concerns), append(x.Holds, p.Hold)
	}
	blob, err := x.encode()
	if err != nil {
		return 0, err
	}
	return len(blob), d.store.PutStatus(ctx, shownName, blob)
}

func (x shown) encode() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(x); err != nil {
		return nil, fmt.Errorf("encode what the other hosts show: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func decodeShown(blob []byte) (*shown, error) {
	z, err := gzip.NewReader(bytes.NewReader(blob))
	if err != nil {
		return nil, err
	}
	var x shown
	if err := json.NewDecoder(io.LimitReader(z, mostShown)).Decode(&x); err != nil {
		return nil, err
	}
	for i := range x.Snapshot.Problems {
		if i < len(x.Concerns) && i < len(x.Holds) {
			x.Snapshot.Problems[i].Concerns, x.Snapshot.Problems[i].Hold = x.Concerns[i], x.Holds[i]
		}
	}
	return &x, nil
}

// readShown reads what the leader published, on a host that follows.
func (d *Daemon) readShown(ctx context.Context) {
	if d.leads() {
		return
	}
	h := &d.hosts
	blob, err := d.store.Status(ctx, shownName)
	if err != nil || len(blob) == 0 || bytes.Equal(blob, h.shownBlob) {
		return
	}
	x, err := decodeShown(blob)
	if err != nil {
		d.log.Warn("what the leader published cannot be read", "error", err.Error())
	}
	h.mu.Lock()
	h.shownBlob = blob
	if err == nil {
		h.shown, h.shownAt = x, d.boot()
	}
	h.mu.Unlock()
	d.touch()
}

// followed is what this host shows of the leader, with what only this host knows. ok is false on the leader itself, and
// where nothing was published yet.
func (d *Daemon) followed(ctx context.Context) (s status.Snapshot, ok bool) {
	d.hosts.mu.Lock()
	x := d.hosts.shown
	d.hosts.mu.Unlock()
	if x == nil || d.inCharge() {
		return s, false
	}
	s = x.Snapshot
	s.Keys, s.Problems = slices.Clone(s.Keys), slices.Clone(s.Problems)
	s.Version, s.Started, s.Hosts = d.opts.Version, d.started, d.hostStatus()
	s.Ready, _ = d.Ready()
	// A record may have changed since: a pause shows at once, also while nobody leads.
	standings := d.current(ctx, time.Now())
	for i, k := range s.Keys {
		j, found := slices.BinarySearchFunc(standings, k.Name, func(st *standing, name string) int {
			return strings.Compare(st.key.Name, name)
		})
		if found && standings[j].err == nil && standings[j].revision != x.Revisions[k.Name] {
			consumers := k.Consumers
			s.Keys[i] = standings[j].shown(rotate.Position{}, k.Proofs)
			s.Keys[i].Consumers = consumers
		}
	}
	s.Problems = trouble.WithHost(time.Now(), s, d.evidence(s, nil))
	s.Summarise()
	return s, true
}
