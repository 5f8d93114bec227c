package status

import "fmt"

// Progress is how far a check is.
type Progress struct {
	Done int    `json:"done"`
	Of   int    `json:"of"`
	What string `json:"what"` // in the plural: "keys"
}

// Words says it.
func (p Progress) Words() string { return fmt.Sprintf("%d of %d %s checked", p.Done, p.Of, p.What) }
