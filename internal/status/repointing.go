package status

import (
	"fmt"
	"time"

	"github.com/keyd-project/keyd/internal/words"
)

// Repointing is the moving of one consumer to another version of the key, or to the key that replaces it.
type Repointing struct {
	Consumer string    `json:"consumer"` // its resource id
	Name     string    `json:"name"`     // the last name in it
	Vault    string    `json:"vault"`    // URL
	From     string    `json:"from"`
	Version  string    `json:"version"`
	NewKey   string    `json:"new_key,omitempty"` // the key that replaces this one, if it goes there
	At       time.Time `json:"at"`                // when keyd began
	Failed   string    `json:"failed,omitempty"`  // why it did not happen; "" while it is under way
}

// Words says what comes of it.
func (r Repointing) Words() string {
	to := "version " + r.Version
	if r.NewKey != "" {
		to = "key " + r.NewKey
	}
	if r.Failed == "" {
		return fmt.Sprintf("%s is moved to %s, since %s", r.Name, to, words.Moment(r.At))
	}
	return fmt.Sprintf("%s could not be moved to %s: %s", r.Name, to, r.Failed)
}
