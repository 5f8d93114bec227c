package status

import (
	"encoding/json"
	"testing"
	"time"
)

func TestJSONShowsADurationAsSeconds(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0": 0, "0.3": 300 * time.Millisecond, "900": 15 * time.Minute,
		"-7.000000001": -7*time.Second - time.Nanosecond,
	} {
		if got, err := json.Marshal(Seconds(d)); err != nil || string(got) != text {
			t.Errorf("%s is %s, %v, want %s", d, got, err, text)
		}
		var back Seconds
		if err := json.Unmarshal([]byte(text), &back); err != nil || back.Duration() != d {
			t.Errorf("%s is read as %s, %v, want %s", text, back.Duration(), err, d)
		}
	}
	if err := json.Unmarshal([]byte(`"5m"`), new(Seconds)); err == nil {
		t.Error("a text is read as a number of seconds")
	}
}
