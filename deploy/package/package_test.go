// Package package_test checks the content of the packages. Its rule: manuals and
// changelog agree with the program, and the tools that read them do not complain.
package package_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// page returns a manual page as a terminal shows it, without line breaks in paragraphs and without bold.
func page(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "groff", "-mdoc", "-ww", "-Tutf8", "-P-cbou", "-rLL=1000n",
		filepath.Join("man", name))
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("groff: %v: %s (install: apt-get install groff-base)", err, &complaints)
	}
	if complaints.Len() > 0 {
		t.Errorf("%s: %s", name, &complaints)
	}
	return strings.NewReplacer("‐", "-", "−", "-", "’", "'").Replace(out.String())
}

func pages() []string { return []string{"keyd.8", "keyd.yaml.5", "keyvault-emulator.8"} }

func TestGroffIsSilent(t *testing.T) {
	for _, name := range pages() {
		if text := page(t, name); len(text) < 1000 {
			t.Errorf("%s has only %d bytes", name, len(text))
		}
	}
}

// commands returns the program's own commands, such as "rotate" or "audit export", with the flags of each, from its
// help.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "keyd")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		"../../cmd/keyd").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	found := map[string][]string{}
	var ask func(words ...string)
	ask = func(words ...string) {
		out, err := exec.CommandContext(t.Context(), program, append(words, "--help")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		list, flags, _ := strings.Cut(string(out), "\nFlags:")
		for _, f := range regexp.MustCompile(`(?m)^ +(?:-\w, )?(--[a-z-]+)`).FindAllStringSubmatch(flags, -1) {
			name := strings.Join(words, " ")
			found[name] = append(found[name], f[1])
		}
		for _, m := range regexp.MustCompile(`(?m)^  ([a-z-]+) +[A-Z]`).FindAllStringSubmatch(list, -1) {
			ask(append(slices.Clone(words), m[1])...)
		}
	}
	ask()
	if len(found) < 10 {
		t.Fatalf("the help lists only %v", found)
	}
	return found
}

func TestTheManualHasEveryCommandAndItsFlags(t *testing.T) {
	_, manual, _ := strings.Cut(page(t, "keyd.8"), "\nCOMMANDS")
	all := map[string]bool{}
	for command, flags := range commands(t) {
		for _, flag := range flags {
			all[flag] = true
		}
		at := regexp.MustCompile(`(?m)^     (?:[a-z]+ \| )?` + command + `\b`).FindStringIndex(manual)
		if at == nil {
			t.Errorf("keyd.8 does not describe keyd %s", command)
			continue
		}
		for _, flag := range flags {
			if !strings.Contains(manual, flag) {
				t.Errorf("keyd.8 does not describe keyd %s %s", command, flag)
			}
		}
	}
	manual, _, _ = strings.Cut(manual, "\nWHO MAY")
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(manual, -1) {
		if !all[flag] {
			t.Errorf("keyd.8 describes %s, which no command accepts", flag)
		}
	}
}

func TestTheEmulatorsManualHasOnlyFlagsThatExist(t *testing.T) {
	help := read(t, "../../cmd/keyvault-emulator/testdata/help.golden")
	manual, _, _ := strings.Cut(page(t, "keyvault-emulator.8"), "The service\n")
	flags := regexp.MustCompile(`--[a-z-]+`).FindAllString(manual, -1)
	if len(flags) < 8 {
		t.Errorf("it describes only %v", flags)
	}
	for _, flag := range flags {
		if !regexp.MustCompile(`(?m)^ .*` + flag + `\b`).MatchString(help) {
			t.Errorf("keyvault-emulator.8 describes %s, which the program does not accept", flag)
		}
	}
}

// Another test checks the field tables of docs/configuration.md against the code, so they list every field.
func TestTheManualHasEveryFieldWithItsDefault(t *testing.T) {
	manual := page(t, "keyd.yaml.5")
	sections := strings.Split(read(t, "../../docs/configuration.md"), "\n## ")
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|[^|]*\\|([^|]*)\\|[^|]*\\|[^|]*\\|$")
	fields := 0
	for _, section := range sections {
		name, body, _ := strings.Cut(section, "\n")
		for _, m := range row.FindAllStringSubmatch(body, -1) {
			fields++
			text := entry(manual, strings.ToUpper(name), m[1])
			if text == "" {
				t.Errorf("keyd.yaml.5, %s, does not describe %s", strings.ToUpper(name), m[1])
			}
			for _, value := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(text, value[1]) {
					t.Errorf("keyd.yaml.5, %s: %s does not mention %s", strings.ToUpper(name), m[1], value[1])
				}
			}
		}
	}
	if fields < 40 {
		t.Errorf("docs/configuration.md has only %d fields", fields)
	}
}

// entry returns a field's entry in a section of a page, "" if there is none.
func entry(manual, section, field string) string {
	_, text, ok := strings.Cut(manual, "\n"+section+"\n")
	if !ok {
		return ""
	}
	text = strings.Split(regexp.MustCompile(`(?m)^\S.*$`).ReplaceAllString(text, "\x00"), "\x00")[0]
	parts := regexp.MustCompile(`(?m)^     ` + regexp.QuoteMeta(field) +
		`(?: .*)?\n?(?:^(?:             .*)?\n)*`).FindString(text)
	return parts
}

func TestTheChangelogBeginsWithThisRelease(t *testing.T) {
	release := regexp.MustCompile(`const release = ` +
		`"([0-9.]+)"`).FindStringSubmatch(read(t, "../../cmd/keyd/version.go"))
	if release == nil {
		t.Fatal("cmd/keyd/version.go has no release")
	}
	if !strings.HasPrefix(read(t, "changelog.yaml"), "- semver: "+release[1]+"\n") {
		t.Errorf("changelog.yaml does not begin with %s", release[1])
	}
}

func TestMaintainerScriptsAreShell(t *testing.T) {
	for _, dir := range []string{"deb", "rpm", "emulator/deb", "emulator/rpm"} {
		scripts, err := filepath.Glob(dir + "/*")
		if err != nil || len(scripts) != 3 {
			t.Fatalf("%s: %v %v", dir, scripts, err)
		}
		for _, script := range scripts {
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", script).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", script, err, out)
			}
			if text := read(t, script); regexp.MustCompile(`\brm\b|userdel|deluser`).MatchString(text) {
				t.Errorf("%s removes what is not its own", script)
			}
		}
	}
}
