package plan

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

// ImportTimeout is how long one PUT may take, and one making of a KEK. With the settle time behind it, it is how long
// an ambiguous one stays open.
const ImportTimeout = time.Minute

// KEKTime is how long after its beginning a KEK may still come to light.
func KEKTime(v key.Vault) time.Duration { return ImportTimeout + v.Kind.SettleTime() }
