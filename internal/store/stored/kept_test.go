package stored

import (
	"fmt"
	"testing"

	"github.com/keyd-project/keyd/internal/record"
)

func TestAStoreKeepsNoMoreDecodedRecordsThanItsBound(t *testing.T) {
	k := NewKept(record.Record.Clone)
	body := make([]byte, 100)
	k.limit = 5 * len(body)
	for i := range 20 {
		name := fmt.Sprintf("key-%02d", i)
		k.Put(name, NewRecord(name, 1, body), record.Record{Key: name})
		k.Put(name, NewRecord(name, 2, body), record.Record{Key: name})
	}
	if n := len(k.records); n != 5 || k.size != k.limit {
		t.Errorf("%d records of %d bytes are kept, want 5 of %d", n, k.size, k.limit)
	}
}
