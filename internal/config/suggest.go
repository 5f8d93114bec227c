package config

import (
	"fmt"
	"strings"

	"github.com/keyd-project/keyd/internal/words"
)

// suggest is the remedy for an unknown word: the nearest known one, or all.
func suggest(word string, known []string) string {
	if len(known) == 0 {
		return "remove it"
	}
	best, distance := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if d := words.Distance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %s?", best)
	}
	if len(known) > 24 {
		known = append(known[:24:24], "…")
	}
	return "write one of " + strings.Join(known, ", ")
}
