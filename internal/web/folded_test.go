package web

import (
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/status"
)

func TestAFinishedRotationIsFoldedToALine(t *testing.T) {
	f := newFeed()
	for i, step := range []string{"reserve", "generate", "finish"} {
		if i > 0 && f.works[0].Summary != "" {
			t.Errorf("before %s it says %q", step, f.works[0].Summary)
		}
		e := done("sa-cmk-key", 3, step, "")
		e.At = at.Add(time.Duration(5*i) * time.Second)
		f.apply(e)
	}
	const want = "done at 09:41:10 UTC: 3 steps in 11.0 s"
	if got := f.works[0].Summary; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	s := threeKeys()
	var b strings.Builder
	if err := statusPages().Execute(&b, viewStatus(s, status.Selection{Page: 1}, f.current(s), nil, nil)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), `data-mark="done"><details><summary>`) || !strings.Contains(b.String(), want) {
		t.Error("the page does not fold it")
	}
	f.apply(done("sa-cmk-key", 4, "reserve", ""))
	if got := f.works[0]; got.Summary != "" || got.Mark != markDoing {
		t.Errorf("the next rotation is shown as %+v", got)
	}
}

func TestARotationThatTakesASpareBeginsWithThat(t *testing.T) {
	f := newFeed()
	for i, step := range []string{"reserve-spare", "generate", "pin"} {
		e := done("sa-cmk-key", 3, step, "")
		e.At = at.Add(-days(20)).Add(time.Duration(i) * time.Second)
		f.apply(e)
	}
	f.apply(done("sa-cmk-key", 3, "promote", ""))
	f.apply(done("sa-cmk-key", 3, "finish", ""))
	if got := f.works[0].Summary; got != "done at 09:41:00 UTC: 2 steps in 1.0 s" {
		t.Errorf("%q", got)
	}
}
