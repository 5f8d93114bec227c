package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
)

func only(t *testing.T, err error, want string) {
	t.Helper()
	var ps config.Problems
	ok := errors.As(err, &ps)
	if !ok || len(ps) != 1 || !strings.Contains(ps[0].String(), want) || ps[0].Remedy == "" {
		t.Errorf("want one problem with %q and a remedy, got\n%v", want, err)
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	_, err := config.Load(filepath.Join(t.TempDir(), "keyd.yaml"))
	only(t, err, "keyd.yaml: the file does not exist; create it")
}

func TestFolderIsNotAConfiguration(t *testing.T) {
	_, err := config.Load(t.TempDir())
	only(t, err, "not a regular file")
}

func TestAnEmptyFileIsMissingRequiredFields(t *testing.T) {
	_, ps := load(t, map[string]string{"keyd.yaml": "# nothing\n"})
	if len(ps) != 2 || !strings.Contains(ps.Error(), "instance is missing") ||
		!strings.Contains(ps.Error(), "hsm is missing") {
		t.Errorf("got\n%v", ps)
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	path := write(t, map[string]string{"keyd.yaml": base + strings.Repeat("# "+strings.Repeat("x", 1000)+"\n", 1100)})
	_, err := config.Load(path)
	only(t, err, "larger than 1 MiB")
}

func TestAFileThatOthersCanWriteIsRefused(t *testing.T) {
	files := map[string]string{"keyd.yaml": base, "keys.d/a.yaml": ""}
	for _, name := range []string{"keyd.yaml", "keys.d", "keys.d/a.yaml"} {
		for _, mode := range []os.FileMode{0o775, 0o757} {
			path := write(t, files)
			if err := os.Chmod(filepath.Join(filepath.Dir(path), name), mode); err != nil {
				t.Fatal(err)
			}
			_, err := config.Load(path)
			only(t, err, name+": it is writable by group or others")
		}
	}
}

func withPIN(t *testing.T, mode os.FileMode, pin string) (configPath, pinPath string) {
	t.Helper()
	pinPath = filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pinPath, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pinPath, mode); err != nil {
		t.Fatal(err)
	}
	return write(t, map[string]string{"keyd.yaml": strings.Replace(base, "hsm-pin", pinPath, 1)}), pinPath
}

func TestPINFileThatOthersCanReadIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620} {
		path, _ := withPIN(t, mode, "1234\n")
		_, err := config.Load(path)
		only(t, err, "keyd.yaml:5:13: hsm.pin_file: ")
		if err != nil && strings.Contains(err.Error(), "1234;") {
			t.Error("the error shows the PIN")
		}
	}
}

func TestCertificateThatOthersCanReadIsRefused(t *testing.T) {
	_, cert := withPIN(t, 0o644, "key")
	path := write(t,
		map[string]string{"keyd.yaml": base + "azure:\n  credential: client-certificate\n  tenant_id: " +
			"contoso.example\n  client_id: 00000000-0000-0000-0000-000000000000\n  certificate_file: " + cert + "\n"})
	_, err := config.Load(path)
	only(t, err, "keyd.yaml:19:21: azure.certificate_file: ")
}

func TestThePINFileIsCheckedByItsReader(t *testing.T) {
	path, pin := withPIN(t, 0o600, "1234\n")
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if ps := c.CheckPINFile(); ps != nil {
		t.Errorf("a good PIN file: %v", ps)
	}
	if err := os.Truncate(pin, 0); err != nil {
		t.Fatal(err)
	}
	only(t, config.Problems(c.CheckPINFile()), "keyd.yaml:5:13: hsm.pin_file: the PIN file "+pin+
		" is empty; write the PIN")
	if err := os.WriteFile(pin, []byte("1234\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	only(t, config.Problems(c.CheckPINFile()), "byte 5 is a carriage return (0x0d)")
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	only(t, config.Problems(c.CheckPINFile()), "no such file")
	if _, err := config.Load(path); err != nil {
		t.Errorf("a side that does not read the PIN must load without it: %v", err)
	}
}

func TestPINFromASystemdCredential(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	c := mustLoad(t, base)
	only(t, config.Problems(c.CheckPINFile()), "CREDENTIALS_DIRECTORY is not set")

	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	// systemd sometimes uses mode 0440.
	if err := os.WriteFile(filepath.Join(dir, "hsm-pin"), []byte("1234"), 0o440); err != nil {
		t.Fatal(err)
	}
	if ps := c.CheckPINFile(); ps != nil {
		t.Errorf("a good credential: %v", ps)
	}
}

func TestURIStandsForModuleTokenAndPINFile(t *testing.T) {
	fields := "  module: /usr/lib/softhsm/libsofthsm2.so\n  token: keyd\n  pin_file: hsm-pin\n"
	c := mustLoad(t, strings.Replace(base, fields,
		"  uri: pkcs11:token=keyd;serial=12?module-path=/opt/lib.so&pin-source=file:/etc/keyd/pin\n", 1))
	if c.HSM.Module != "/opt/lib.so" || c.HSM.Token != "keyd" || c.HSM.Serial != "12" ||
		c.HSM.PINFile != "/etc/keyd/pin" {
		t.Errorf("HSM = %+v", c.HSM)
	}
	c = mustLoad(t, strings.Replace(base, fields,
		"  uri: pkcs11:token=keyd?module-path=/opt/lib.so\n  pin_file: hsm-pin\n", 1))
	if c.HSM.PINFile != "hsm-pin" {
		t.Errorf("a URI without pin-source beside pin_file: %+v", c.HSM)
	}
}

func TestURIWithoutPINSourceNeedsPINFile(t *testing.T) {
	fields := "  module: /usr/lib/softhsm/libsofthsm2.so\n  token: keyd\n  pin_file: hsm-pin\n"
	_, ps := load(t, map[string]string{"keyd.yaml": strings.Replace(base, fields, "  uri: pkcs11:token=keyd\n", 1)})
	if len(ps) != 2 || !strings.Contains(ps.Error(), "no module-path") ||
		!strings.Contains(ps.Error(), "no pin-source") {
		t.Errorf("got\n%v", ps)
	}
}
