package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is this version, or the next one while it is in development (semver.org). The packages take their version
// from `keyd version --json`.
const release = "0.1.0"

// build is what this binary was built from.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // there are changes after that commit
	Go       string `json:"go"`
}

// thisBuild adds to the release what the Go toolchain stamped into the binary.
func thisBuild() build {
	b := build{Version: release, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "version",
		Short:   "Show the version and build of this binary",
		Long:    "version shows the release, the Go toolchain, and the commit that this binary was built from.",
		Example: "  keyd version",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			return a.show(b, func(w io.Writer, _ style) {
				fmt.Fprintln(w, b)
			})
		},
	})
}

// String returns text for a person: version, toolchain, and on a second line the commit.
func (b build) String() string {
	text := fmt.Sprintf("keyd %s, %s", b.Version, b.Go)
	if b.Commit != "" {
		text += "\ncommit " + b.Commit
		if b.Modified {
			text += ", and changes since"
		}
	}
	return text
}
