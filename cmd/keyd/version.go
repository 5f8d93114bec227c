package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what this binary was built from.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// thisBuild reads what the Go toolchain stamped into the binary.
func thisBuild() build {
	b := build{Version: "(unknown)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "version",
		Short:   "Show what this binary is",
		Example: "  keyd version",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			return a.show(b, func(w io.Writer, _ style) {
				fmt.Fprintf(w, "keyd %s, %s\n", b.Version, b.Go)
				if b.Commit != "" {
					fmt.Fprintf(w, "commit %s\n", b.Commit)
				}
			})
		},
	})
}
