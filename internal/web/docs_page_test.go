//go:build page

package web

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/status"
)

// inTrouble is threeKeys with a hold, an unreachable vault, and a proof that fails.
func inTrouble() status.Snapshot {
	s := threeKeys()
	hold(&s, 1, key.HoldForeign, "the newest version of sa-cmk-key in vault contoso-weu, 77ab0e2c, is not keyd's: "+
		"versionless consumers follow it. Find out who made it; to import over it: keyd adopt sa-cmk-key")
	s.Problems[0].Vault = "contoso-weu"
	s.Keys[1].Consumers = oneBehind(s.Keys[1])
	s.Problems = append(s.Problems, consumerProblem(s.Keys[1]))
	s.Keys[2].State, s.Keys[2].Waiting = status.StatePartial, "vault contoso-hsm cannot be used"
	g := &s.Keys[2].Generations[2]
	g.Placements, g.Finished = g.Placements[:1], g.Finished.AddDate(1, 0, 0)
	s.Problems = append(s.Problems,
		status.Problem{Severity: status.Warning, Vault: "contoso-hsm", Runbook: "keydvaultunreachable",
			Text:   "vault contoso-hsm cannot be used: no answer within 30 s",
			Remedy: "keyd check tries each part of the way to it; keyd goes on by itself"})
	s.Vaults[1].Reachable, s.Vaults[1].Error = false, "no answer within 30 s"
	s.Vaults[1].History = history(map[int]status.Slot{92: status.SlotBad, 93: status.SlotBad, 94: status.SlotBad,
		95: status.SlotBad})
	return s
}

// consumerProblem is that of oneBehind.
func consumerProblem(k status.Key) status.Problem {
	n := len(k.Generations)
	return status.Problem{Severity: status.Warning, Key: k.Name, Vault: "contoso-weu", Runbook: "keydconsumerlags",
		Text: fmt.Sprintf(
			"%s: AI services account ai-prod uses generation %d, not %d; it does not follow by itself, so "+
				"somebody must move it (vault contoso-weu)",
			k.Name,
			n-1,
			n,
		),
		Remedy: "set it to the newest version, or to the key without a version, as the runbook says"}
}

// TestPageForTheDocs makes the pictures for docs/page.md: make screenshots.
func TestPageForTheDocs(t *testing.T) {
	rotating, events := rotatingNow()
	for _, c := range []struct {
		name   string
		world  shown
		path   string
		view   view
		height float64
	}{
		{"status", shown{"", rotating, events, entries()}, "/", view{width: 960, height: 900}, 2250},
		{"trouble", shown{"", inTrouble(), nil, entries()}, "/", view{width: 960, height: 900, dark: true}, 1500},
		{"many", shown{"", manyKeys(500), nil, entries()}, "/", view{width: 960, height: 900}, 2000},
		{"key", shown{"", inTrouble(), nil, entries()}, "/keys/sa-cmk-key", view{width: 960, height: 900}, 2400},
		{"phone", shown{"", rotating, events, entries()}, "/", phone, 1500},
	} {
		b := newTab(t, c.view)
		b.open(serveShown(t, c.world) + c.path)
		if c.path == "/" {
			b.wait("the page is live", isLive)
		}
		small := reduce(t, b.picture(c.height))
		if len(small) > 150<<10 {
			t.Errorf("%s is %d KB", c.name, len(small)>>10)
		}
		if err := os.WriteFile(filepath.Join(*shots, c.name+".png"), small, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// alike reports whether two colours look the same. So shades of text leave room for a colour that is rare.
func alike(a color.RGBA, b color.Color) bool {
	o := color.RGBAModel.Convert(b).(color.RGBA)
	near := func(x, y uint8) bool { return max(x, y)-min(x, y) < 7 }
	return near(a.R, o.R) && near(a.G, o.G) && near(a.B, o.B)
}

// reduce reduces a picture to its 256 most frequent colours, of those that look alike to one.
func reduce(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[color.RGBA]int{}
	box := full.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			counts[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	all := make([]color.RGBA, 0, len(counts))
	for c := range counts {
		all = append(all, c)
	}
	word := func(c color.RGBA) int { return int(c.R)<<16 | int(c.G)<<8 | int(c.B) }
	slices.SortFunc(all, func(a, b color.RGBA) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return word(a) - word(b)
	})
	var colours color.Palette
	for _, c := range all {
		if len(colours) < 256 && !slices.ContainsFunc(colours, func(o color.Color) bool { return alike(c, o) }) {
			colours = append(colours, c)
		}
	}
	few := image.NewPaletted(box, colours)
	draw.Draw(few, box, full, box.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
