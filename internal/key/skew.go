package key

import "time"

// MaxSkew is how far the local clock and a vault's may differ. Beyond it keyd begins nothing scheduled and disables
// nothing, `keyd check` fails, and for a version the vault's time counts.
const MaxSkew = 5 * time.Minute
