package stored

import (
	"context"

	"github.com/keyd-project/keyd/internal/chain"
)

// Visitor is shown all that a store holds, byte for byte: every entry in order, every record, every ledger. A record
// that changes meanwhile is shown again, after the entries of its change.
type Visitor interface {
	Entry(l chain.Linked) error
	Record(name string, value []byte) error
	Ledger(name string, value []byte) error
}

// Walker shows all that it holds, as it was at one moment.
type Walker interface {
	Walk(ctx context.Context, v Visitor) error
}
