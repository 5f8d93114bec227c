package pin_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyd-project/keyd/internal/pin"
)

// in makes a PIN file with this content and mode, as an ordinary file or a credential.
func in(t testing.TB, content string, mode os.FileMode, credential bool) pin.File {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "hsm-pin")
	if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	if !credential {
		dir = ""
	}
	f, err := pin.Find(path, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatCanBeTypedIsReadAsItIs(t *testing.T) {
	for name, c := range map[string]struct {
		content    string
		mode       os.FileMode
		credential bool
		want       string
	}{
		"digits":                      {"123456", 0o600, false, "123456"},
		"one newline goes":            {"123456\n", 0o400, false, "123456"},
		"an inner space":              {"correct horse\n", 0o600, false, "correct horse"},
		"a trailing space":            {"123456 \n", 0o600, false, "123456 "},
		"a leading space":             {" 123456\n", 0o600, false, " 123456"},
		"other scripts":               {"пароль-密码-é\n", 0o600, false, "пароль-密码-é"},
		"a non-joiner, as in Persian": {"می\u200cخواهم", 0o600, false, "می\u200cخواهم"},
		"a space that does not break": {"12\u00a034", 0o600, false, "12\u00a034"},
		"a credential, which is 0440": {"123456", 0o440, true, "123456"},
		"the longest": {strings.Repeat("1", pin.Max) + "\n", 0o600, false,
			strings.Repeat("1", pin.Max)},
		"signs that mean much to a sh": {"$(reboot)'\"\\", 0o600, false, "$(reboot)'\"\\"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := in(t, c.content, c.mode, c.credential).Read(); string(got) != c.want || err != nil {
				t.Errorf("%q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestWhatCannotBeTypedIsRefusedWithItsByte(t *testing.T) {
	const secret = "s3cr3t" // 6 bytes
	for name, c := range map[string]struct{ content, want string }{
		"a line of Windows":       {secret + "\r\n", "byte 7 is a carriage return (0x0d)"},
		"a carriage return":       {secret + "\r", "byte 7 is a carriage return (0x0d)"},
		"two newlines":            {secret + "\n\n", "byte 7 is a newline (0x0a)"},
		"a leading newline":       {"\n" + secret + "\n", "byte 1 is a newline (0x0a)"},
		"two lines":               {secret + "\n" + secret + "\n", "byte 7 is a newline (0x0a)"},
		"a tab":                   {secret + "\t\n", "byte 7 is a tab (0x09)"},
		"a NUL at the end":        {secret + "\x00", "byte 7 is a NUL, as in UTF-16 (0x00)"},
		"an escape":               {"\x1b[A" + secret, "byte 1 is a control character (0x1b)"},
		"a delete":                {secret + "\x7f", "byte 7 is a control character (0x7f)"},
		"a byte order mark":       {"\ufeff" + secret, "bytes 1 to 3 (0xef 0xbb 0xbf)"},
		"a byte order mark alone": {"\ufeff", "bytes 1 to 3 (0xef 0xbb 0xbf)"},
		"a later byte order mark": {secret + "\ufeff", "byte 7 begins the character U+FEFF"},
		"a zero width space":      {secret + "\u200b", "byte 7 begins the character U+200B"},
		"a replacement character": {secret + "\ufffd", "byte 7 begins the character U+FFFD"},
		"a line separator":        {secret + "\u2028", "byte 7 begins the character U+2028"},
		"UTF-16, little end":      {"\xff\xfe1\x002\x00", "is UTF-16: bytes 1 and 2"},
		"UTF-16, big end":         {"\xfe\xff\x001\x002", "is UTF-16: bytes 1 and 2"},
		"UTF-16 without a mark":   {"1\x002\x00", "byte 2 is a NUL, as in UTF-16 (0x00)"},
		"Latin-1":                 {secret + "\xe9", "is not UTF-8: byte 7"},
		"a surrogate":             {secret + "\xed\xa0\x80", "is not UTF-8: byte 7"},
		"nothing":                 {"", "is empty"},
		"a newline":               {"\n", "is empty"},
		"too long":                {strings.Repeat("1", pin.Max+1), "more than the 1024 bytes"},
		"far too long":            {strings.Repeat("1", 1<<20), "more than the 1024 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f := in(t, c.content, 0o600, false)
			got, err := f.Read()
			var e *pin.Error
			if got != nil || !errors.As(err, &e) {
				t.Fatalf("%q, %v, want an Error", got, err)
			}
			if !strings.Contains(e.Reason, c.want) || !strings.Contains(e.Reason, f.Path()) {
				t.Errorf("%q does not say %q and the file", e.Reason, c.want)
			}
			if !strings.Contains(e.Remedy, "read -rsp") {
				t.Errorf("%q is no command that writes the file", e.Remedy)
			}
			if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, "\xe9") ||
				strings.Contains(text, "0xe9") {
				t.Errorf("the error holds a part of the PIN: %q", text)
			}
		})
	}
}

func TestAFileThatIsNotTheHSMSidesAloneIsRefused(t *testing.T) {
	if _, err := in(t, "123456", 0o640, false).Read(); err == nil ||
		!strings.Contains(err.Error(), "sudo chmod 0600 '") {
		t.Errorf("one that the group can read: %v", err)
	}
	dir, err := pin.Find(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Read(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	absent, err := pin.Find(filepath.Join(t.TempDir(), "pin"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := absent.Read(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "read -rsp") {
		t.Errorf("no file: %v", err)
	}
}

// The test runs the suggested command, with a sudo that changes no user. It types the PIN, so no argument has it.
func TestTheSuggestedCommandWritesTheFile(t *testing.T) {
	const typed = ` a "b' $HOME \n*`
	dir := t.TempDir()
	sudo := filepath.Join(dir, "sudo")
	if err := os.WriteFile(sudo, []byte("#!/bin/sh\nexec \"$@\"\n"), 0o700); err != nil { //nolint:gosec // run as sudo
		t.Fatal(err)
	}
	path := filepath.Join(dir, "it's a pin")
	if err := os.WriteFile(path, []byte("123456\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := pin.Find(path, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Read()
	var e *pin.Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(e.Remedy, "which asks for it: ")
	sh := exec.Command("sh", "-c", command)
	sh.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	sh.Stdin = strings.NewReader(typed + "\n")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	if got, err := f.Read(); string(got) != typed || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestACredentialIsWrittenWhereItComesFrom(t *testing.T) {
	_, err := pin.Find("hsm-pin", "")
	if err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY") ||
		!strings.Contains(err.Error(), "LoadCredential=hsm-pin:") {
		t.Errorf("without a directory: %v", err)
	}
	f, err := pin.Find("hsm-pin", filepath.Join(t.TempDir(), "keyd-hsm.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Read()
	for _, want := range []string{"'/etc/keyd/hsm-pin'", "LoadCredential= of keyd-hsm.service",
		"sudo systemctl restart keyd-hsm.service"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestFind(t *testing.T) {
	const restart = "then: sudo systemctl restart keyd-hsm.service"
	for _, c := range []struct {
		name, dir, want, renewed string
	}{
		{"/etc/keyd/pin", "", "/etc/keyd/pin", "keyd then tries it once, without a restart"},
		{"hsm-pin", "/run/credentials/keyd-hsm.service", "/run/credentials/keyd-hsm.service/hsm-pin", restart},
		{"/run/credentials/keyd-hsm.service/pin", "/run/credentials/keyd-hsm.service/",
			"/run/credentials/keyd-hsm.service/pin", restart},
		{"hsm-pin", "", "", ""},
		{"../pin", "/run/credentials/x", "", ""},
		{"", "/run/credentials/x", "", ""},
	} {
		got, err := pin.Find(c.name, c.dir)
		if got.Path() != c.want || (err == nil) != (c.want != "") || err == nil && got.Renewed() != c.renewed {
			t.Errorf("Find(%q, %q) = %+v, %v", c.name, c.dir, got, err)
		}
	}
}

func TestASpaceAtAnEndIsHintedAt(t *testing.T) {
	for typed, want := range map[string]string{
		"123456 ": "byte 7", "123456\u00a0": "byte 7", " 123456": "byte 1", "123 456": "", "123456": "", "": "",
	} {
		if got := pin.Hint([]byte(typed)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", typed, got, want)
		}
	}
}

// Whatever is in the file, the result is its content without one newline, is UTF-8, and has no byte below a space; an
// error reveals nothing of a PIN that is in the file.
func FuzzFile(f *testing.F) {
	const secret = "Zq9-s3cr3t"
	for _, around := range [][2]string{{"", ""}, {"", "\n"}, {"", "\r\n"}, {"\ufeff", "\n"}, {"\n", ""}, {"", "\x00"},
		{"\xff\xfe", ""}, {" ", " "}, {"é", "\xe9"}} {
		f.Add([]byte(around[0]), []byte(around[1]))
	}
	f.Fuzz(func(t *testing.T, before, behind []byte) {
		content := string(before) + secret + string(behind)
		got, err := in(t, content, 0o600, false).Read()
		if err != nil {
			if got != nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %q, %v", content, got, err)
			}
			return
		}
		below := bytes.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufeff' })
		if strings.TrimSuffix(content, "\n") != string(got) || !utf8.Valid(got) || below || len(got) == 0 ||
			len(got) > pin.Max {
			t.Errorf("%q was read as %q", content, got)
		}
		_ = pin.Hint(got)
	})
}
