package main

import (
	"slices"
	"testing"
	"time"
)

func TestTimesInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "now", -500 * time.Millisecond: "now", time.Second: "in 1 s",
		-90 * time.Second: "90 s ago", -2 * time.Minute: "2 min ago", 119 * time.Minute: "in 119 min",
		47 * time.Hour: "in 47 hours", 49 * time.Hour: "in 2 days", -59 * 24 * time.Hour: "59 days ago",
		-70 * 24 * time.Hour: "2 months ago", -800 * 24 * time.Hour: "2 years ago",
	} {
		if got := when(at(0), at(d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := when(at(0), time.Time{}); got != "never" {
		t.Errorf("the zero time: %q", got)
	}
}

func TestElapsedTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 1290 * time.Millisecond: "1.2 s", 59990 * time.Millisecond: "59.9 s",
		185 * time.Second: "3 min 05 s", 2*time.Hour + 3*time.Minute + 4*time.Second: "2 h 03 min",
	} {
		if got := elapsed(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := brief(38 * time.Millisecond); got != "38 ms" {
		t.Errorf("a step of 38 ms: %q", got)
	}
}

func TestCleanedTextCannotMoveTheCursor(t *testing.T) {
	if got := clean("a\x1b[2Jb\rc\nd\u202e\u200d"); got != "a\uFFFD[2Jb\uFFFDc\nd\uFFFD\uFFFD" {
		t.Errorf("%q", got)
	}
}

func TestTextIsMeasuredInColumns(t *testing.T) {
	for text, want := range map[string]int{"": 0, "abc": 3, "größe": 5, "gro\u0308ße": 5, "鍵管理": 6, "🔑": 2, "→ –…": 4} {
		if got := columns(text); got != want {
			t.Errorf("%q takes %d columns, not %d", text, got, want)
		}
	}
}

func TestTextIsCutToColumns(t *testing.T) {
	for _, test := range []struct {
		text string
		most int
		want string
	}{
		{"abcdef", 6, "abcdef"}, {"abcdef", 5, "abcd…"}, {"abcdef", 1, "…"}, {"鍵管理鍵", 5, "鍵管…"}, {"鍵管理鍵", 6, "鍵管…"},
	} {
		if got := cut(test.text, test.most); got != test.want {
			t.Errorf("%q cut to %d is %q, want %q", test.text, test.most, got, test.want)
		}
	}
}

func TestTextIsWrappedBetweenWords(t *testing.T) {
	for _, test := range []struct {
		text string
		want []string
	}{
		{"two  words", []string{"two  words"}},
		{"as many words as fit", []string{"as many", "words as", "fit"}},
		{"a https://contoso-weu.vault.azure.net b", []string{"a", "https://contoso-weu.vault.azure.net", "b"}},
		{"鍵 管理 鍵管理", []string{"鍵 管理", "鍵管理"}},
		{"", []string{""}},
	} {
		if got := wrap(test.text, 10); !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}
