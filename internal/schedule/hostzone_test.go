package schedule

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestATZThatCannotBeLoadedIsNotUTC(t *testing.T) {
	for _, c := range []struct{ tz, loaded, want string }{
		{"", "UTC", ""},
		{":", "UTC", ""},
		{"UTC", "UTC", ""},
		{":UTC", "UTC", ""},
		{"UTC0", "UTC", ""},
		{"Etc/UTC", "Etc/UTC", ""},
		{"Europe/Berlin", "Europe/Berlin", ""},
		{":/etc/localtime", "Local", ""},
		{"Europe/Berln", "UTC", `"Europe/Berln"`},
		{"/no/such/file", "UTC", `"/no/such/file"`},
		{"CET-1CEST,M3.5.0,M10.5.0/3", "UTC", "TZ=Europe/Berlin"}, // libc reads such rules, Go does not
	} {
		err := checkTZ(c.tz, c.loaded)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("TZ=%s, loaded %s: %v", c.tz, c.loaded, err)
		}
	}
}

func TestALocaltimeThatCannotBeLoadedIsNotUTC(t *testing.T) {
	dir := t.TempDir()
	link := func(target string) string {
		path := filepath.Join(dir, strings.ReplaceAll(target, "/", "-"))
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		path, loaded string
		refused      bool
	}{
		{filepath.Join(dir, "none"), "UTC", false},
		{link("/usr/share/zoneinfo/Etc/UTC"), "UTC", false}, // as Debian has it, without tzdata
		{link("/usr/share/zoneinfo/Europe/Nowhere"), "UTC", true},
		{link("/usr/share/zoneinfo/Europe/Berlin"), "Local", false},
	} {
		err := checkLocaltime(c.path, c.loaded)
		if (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), "install the package tzdata") {
			t.Errorf("%s, loaded %s: %v", c.path, c.loaded, err)
		}
	}
}
