package status

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

// Repointing is the moving of one consumer to another version of the key.
type Repointing struct {
	Consumer string    `json:"consumer"` // its resource id
	Name     string    `json:"name"`     // the last name in it
	Vault    string    `json:"vault"`    // URL
	From     string    `json:"from"`
	Version  string    `json:"version"`
	At       time.Time `json:"at"`               // when keyd began
	Failed   string    `json:"failed,omitempty"` // why it did not happen; "" while it is under way
}

// Words says what comes of it.
func (r Repointing) Words() string {
	if r.Failed == "" {
		return fmt.Sprintf("%s is moved to version %s, since %s", r.Name, r.Version, words.Moment(r.At))
	}
	return fmt.Sprintf("%s could not be moved to version %s: %s", r.Name, r.Version, r.Failed)
}
