//go:build system

package systemtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A user with sudo whose home has dist/ in it follows document exactly as it is written.
const document = "docs/try-as-a-service.md"

// step is one command of a document's console blocks, and the output that the document shows for it: "…" stands for
// anything.
type step struct {
	line    int
	command string
	output  []string
}

// steps reads a page's console blocks. "$ " begins a command. It continues on the next line after a backslash, and to
// the end of a here-document.
func steps(page string) (all []step) {
	hereDocument := regexp.MustCompile(`<<'(\w+)'`)
	inBlock, goesOn, end := false, false, ""
	for i, line := range strings.Split(page, "\n") {
		switch {
		case !inBlock:
			inBlock = line == "```console"
		case goesOn || end != "":
			all[len(all)-1].command += "\n" + line
			goesOn = end == "" && strings.HasSuffix(line, `\`)
			if line == end {
				end = ""
			}
		case line == "```":
			inBlock = false
		case strings.HasPrefix(line, "$ "):
			all = append(all, step{line: i + 1, command: line[2:]})
			goesOn = strings.HasSuffix(line, `\`)
			if m := hereDocument.FindStringSubmatch(line); m != nil {
				end = m[1]
			}
		default:
			all[len(all)-1].output = append(all[len(all)-1].output, line)
		}
	}
	return all
}

// missing is the first line that a document shows and a command did not print after the line before it, "" if it
// printed all.
func missing(shown []string, printed string) string {
	lines := strings.Split(printed, "\n")
	for _, want := range shown {
		parts := strings.Fields(want)
		for i, part := range parts {
			parts[i] = strings.ReplaceAll(regexp.QuoteMeta(part), "…", ".*")
		}
		form := regexp.MustCompile(`^\s*` + strings.Join(parts, `\s+`) + `\s*$`)
		for len(lines) > 0 && !form.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return want
		}
		lines = lines[1:]
	}
	return ""
}

func TestTheDocumentWorksAsWritten(t *testing.T) {
	page, err := os.ReadFile(document)
	if err != nil {
		t.Fatalf("%v (run it at the top of the source tree)", err)
	}
	all := steps(string(page))
	if len(all) < 20 {
		t.Fatalf("%s has only %d commands", document, len(all))
	}
	began := time.Now()
	m := bootMachine(t)
	reader := m.reader(t)
	before := m.traces(t)
	for _, s := range all {
		start := time.Now()
		printed, err := m.try("runuser", "-l", reader, "-c", s.command)
		if err != nil {
			t.Fatalf("%s:%d: %v\nthe journal's end:\n%s", document, s.line, err, m.tail())
		}
		if line := missing(s.output, printed); line != "" {
			t.Errorf("%s:%d: %s\nshows the line\n%s\nand it printed\n%s", document, s.line, s.command, line, printed)
		}
		t.Logf("%s:%d (%.1f s) $ %s\n%s\n", document, s.line, time.Since(start).Seconds(), s.command, printed)
	}
	if after := m.traces(t); after != before {
		t.Errorf("%s leaves behind:\n%s\nbefore it there was:\n%s", document, after, before)
	}
	if !t.Failed() {
		fmt.Printf("ok    the %d commands of %s do what it says (%.1f s)\n",
			len(all), document, time.Since(began).Seconds())
	}
}

// reader creates the user who follows the document.
func (m *machine) reader(t *testing.T) (name string) {
	t.Helper()
	name = "reader"
	m.run(t, "useradd", "--create-home", "--shell", "/bin/bash", name)
	m.write(t, "/etc/sudoers.d/"+name, name+" ALL=(ALL) NOPASSWD: ALL\n", 0o440)
	for _, file := range []string{*debFile, *emulatorDeb} {
		m.copyIn(t, file, "/home/"+name+"/dist/"+filepath.Base(file), 0o644)
	}
	// apt gives the container this machine's packages as they are now, though somebody may install others on the
	// machine meanwhile. It knows of nothing newer, because there is no network.
	m.shell(t, `cd /var/lib && cp -a dpkg dpkg.own && rm -rf dpkg dpkg.own/updates/* && mv dpkg.own dpkg
		rm -rf apt/lists/*`)
	return name
}

// traces are the files, users, groups and processes that show that keyd, the emulator or a token is present.
func (m *machine) traces(t *testing.T) string {
	t.Helper()
	return m.shell(t, `find /etc /var/lib /usr/bin /usr/lib /usr/libexec /usr/share /run -xdev \
			\( -name 'keyd*' -o -name 'keyvault-emulator*' -o -name '*.object' \) -not -path '/var/lib/dpkg/*' | sort
		getent passwd keyd keyd-hsm keyvault-emulator || true
		getent group keyd keyd-hsm keyvault-emulator || true
		pgrep -l 'keyd|keyvault' || true`)
}
