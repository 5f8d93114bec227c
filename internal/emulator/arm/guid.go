package arm

import (
	"crypto/sha256"
	"fmt"
)

// guidOf is a GUID that depends on a text only.
func guidOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
