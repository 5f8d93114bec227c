package plan

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// ImportTimeout is how long one PUT may take, and how long the creation of one KEK may take. An ambiguous call stays
// open for this time plus the settle time.
const ImportTimeout = time.Minute

// KEKTime is how long a KEK may take to appear, counted from when keyd began to make it.
func KEKTime(v key.Vault) time.Duration { return ImportTimeout + v.Kind.SettleTime() }
