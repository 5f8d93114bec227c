package record

import "testing"

func TestAFewChangesInTheCopyAlone(t *testing.T) {
	none := Few[string, int]{}
	one := none.With("a", 1)
	two := one.With("b", 2)
	changed := two.With("a", 3)
	for _, c := range []struct {
		of   Few[string, int]
		a, b int
	}{{nil, 0, 0}, {none, 0, 0}, {one, 1, 0}, {two, 1, 2}, {changed, 3, 2}, {one.With("b", 5), 1, 5}} {
		if a, b := c.of.Of("a"), c.of.Of("b"); a != c.a || b != c.b {
			t.Errorf("%v has %d and %d, want %d and %d", c.of, a, b, c.a, c.b)
		}
	}
}
