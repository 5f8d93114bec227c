package words

import (
	"strings"
	"testing"
)

func TestDistanceCountsInsertionsDeletionsChangesAndSwaps(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"key", "key", 0}, {"", "key", 3}, {"key", "keys", 1}, {"keys", "key", 1}, {"kay", "key", 1},
		{"kye", "key", 1}, {"vaults", "valuts", 1}, {"abc", "cab", 2}, {"schedule", "shcedul", 2},
		{strings.Repeat("a", 301), "a", 300},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("from %q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
