package rotate_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/chain"
	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/record"
	"github.com/keyd-project/keyd/internal/rotate"
)

// fullDisk is a store that can be read only.
type fullDisk struct {
	rotate.Store
	writes int
}

// noSpace is what the store says of a disk without space.
type noSpace struct{}

func (noSpace) Error() string     { return "no space left on device" }
func (noSpace) Class() key.Class  { return key.Retry }
func (noSpace) Unwritable() bool  { return true }
func (noSpace) Is(err error) bool { return err == errNoSpace }

var errNoSpace = errors.New("no space")

func (d *fullDisk) Save(context.Context, record.Record, ...chain.Entry) (record.Record, error) {
	d.writes++
	return record.Record{}, noSpace{}
}

func (d *fullDisk) SaveTogether(context.Context, []record.Record, [][]chain.Entry) error {
	d.writes++
	return noSpace{}
}

func TestARequestOnAFullDiskSaysThatTheDiskIsFull(t *testing.T) {
	w := newWorld(t, 1, weu)
	p := policy(weu)
	disk := &fullDisk{Store: w.store}
	r := w.rotator()
	r.Store = disk
	_, _, err := r.Request(t.Context(), p, rotate.Wanted{Actor: "uid 0 (root)", Reason: "a drill"})
	if !errors.Is(err, errNoSpace) || !strings.Contains(err.Error(), p.Key) ||
		strings.Contains(err.Error(), "other changes") {
		t.Errorf("error: %v", err)
	}
	if disk.writes != 1 {
		t.Errorf("keyd wrote %d times to a full disk", disk.writes)
	}
}
