package main

import "testing"

func TestNearNamesAreSuggested(t *testing.T) {
	known := []string{"sa-cmk-key", "sql-tde", "cosmos", "status", "sa-cmk-key-2"}
	for typed, want := range map[string]string{
		"sa-cmk-kye":   "did you mean sa-cmk-key or sa-cmk-key-2? ", // two letters swapped
		"sa-cmk-key-3": "did you mean sa-cmk-key-2 or sa-cmk-key? ", // the nearest first
		"cosmso":       "did you mean cosmos? ",
		"SQL":          "did you mean sql-tde? ", // its beginning
		"st":           "did you mean status? ",
		"frobnicate":   "",
		"":             "",
		"x":            "",
	} {
		if got := didYouMean(typed, known); got != want {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}
