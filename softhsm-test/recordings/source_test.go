//go:build recordings

package recordings

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/Azure/azure-sdk-for-go/sdk/keyvault/azkeys"

// sums are the checksums of the modules' content (go.dev/ref/mod, "Authenticating modules"), so that the recordings
// are exactly these.
var sums = map[string]string{
	"v0.5.1": "h1:AXFNQ6kLaPODEpGSMWjmbkt6iP7fa1DIEzjx6JRFC9U=",
	"v0.6.0": "h1:3Onh5qkCDHpIJplrRI/DbbzWPnFKHRjQV4idRwLrghQ=",
}

// recording is one file: the calls of one of Microsoft's tests, in their order.
type recording struct {
	name  string
	calls []call
}

// call is one request and the real service's answer.
type call struct {
	RequestURI      string            `json:"RequestUri"`
	RequestMethod   string            `json:"RequestMethod"`
	RequestHeaders  map[string]string `json:"RequestHeaders"`
	RequestBody     any               `json:"RequestBody"`
	StatusCode      int               `json:"StatusCode"`
	ResponseHeaders map[string]string `json:"ResponseHeaders"`
	ResponseBody    any               `json:"ResponseBody"`
}

func (c call) signedIn() bool { return c.RequestHeaders["Authorization"] != "" }

func (c call) toHSM() bool { return strings.Contains(hostIn(c.RequestURI), "hsm") }

// ofService is false of the attestation service of Microsoft's own tests.
func (c call) ofService() bool { return !strings.Contains(hostIn(c.RequestURI), "attestation") }

// path is without host and query.
func (c call) path() string {
	path, _, _ := strings.Cut(c.target(), "?")
	return path
}

// target is the path with the query.
func (c call) target() string {
	_, rest, _ := strings.Cut(c.RequestURI, "://")
	_, target, _ := strings.Cut(rest, "/")
	return "/" + target
}

func hostIn(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// load downloads the modules and reads their recordings.
func load(t *testing.T) []recording {
	t.Helper()
	var all []recording
	for version, sum := range sums {
		var m struct{ Dir, Sum, Error string }
		out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module+"@"+version).Output()
		if jsonErr := json.Unmarshal(out, &m); err != nil || jsonErr != nil {
			t.Fatalf("go mod download %s@%s: %v %s", module, version, err, m.Error)
		}
		if m.Sum != sum {
			t.Fatalf("%s@%s is %s and not %s: these are other recordings", module, version, m.Sum, sum)
		}
		root := filepath.Join(m.Dir, "testdata", "recordings")
		err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var file struct{ Entries []call }
			if err := json.Unmarshal(text, &file); err != nil {
				return err
			}
			all = append(all, recording{version + strings.TrimPrefix(path, root), file.Entries})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(all, func(a, b recording) int { return strings.Compare(a.name, b.name) })
	return all
}
