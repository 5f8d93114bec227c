package key

import (
	"strings"
	"testing"
	"time"
)

func TestAMarkIsReadBackAndFitsInATag(t *testing.T) {
	c := Checkpoint{
		Instance: "hq-1",
		Seq:      1<<64 - 1,
		Head:     Fingerprint("sha256:" + strings.Repeat("5e", 32)),
		Time:     time.Now(),
	}
	if len(c.Mark()) != 92 {
		t.Errorf("%s has %d characters", c.Mark(), len(c.Mark()))
	}
	seq, head, err := ParseMark(c.Mark())
	if err != nil || seq != c.Seq || head != c.Head {
		t.Errorf("read back as %d, %s, %v", seq, head, err)
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add("57:sha256:" + strings.Repeat("5e", 32))
	f.Add("0:sha256:" + strings.Repeat("5e", 32))
	f.Add("57:")
	f.Fuzz(func(t *testing.T, text string) {
		seq, head, err := ParseMark(text)
		if err != nil {
			return
		}
		c := Checkpoint{Instance: "hq-1", Seq: seq, Head: head, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
		if err := c.Valid(); err != nil {
			t.Errorf("%q is the mark of what cannot be a checkpoint: %v", text, err)
		}
		if again, _, err := ParseMark(c.Mark()); err != nil || again != seq {
			t.Errorf("%q is read back as %d, %v", c.Mark(), again, err)
		}
	})
}
