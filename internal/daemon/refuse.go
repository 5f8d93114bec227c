package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/ownership"
	"github.com/keyd-project/keyd/internal/vault"
	"github.com/keyd-project/keyd/internal/web"
)

// CheckStart finds what is wrong with the files, users and paths that a configuration names, before a daemon touches
// anything. Errors: config.Problems, or those of vault.NewCredential about a certificate that has ended, which is no
// mistake in the configuration.
func CheckStart(cfg *config.Config) error {
	s := starting{cfg: cfg}
	s.check()
	return s.err()
}

// CheckPlanned is CheckStart for a process other than the service, and finds what the HSM side would refuse, too.
// unseen lists what only the services can see.
func CheckPlanned(cfg *config.Config) (unseen []string, err error) {
	s := starting{cfg: cfg, planned: true}
	s.check()
	s.readable()
	s.module()
	if s.cfg.HSM.Socket != "" {
		s.socket("hsm.socket", s.cfg.HSM.Socket)
	}
	return s.unseen, s.err()
}

// starting collects what keeps a daemon from starting.
type starting struct {
	cfg      *config.Config
	planned  bool
	problems config.Problems
	unseen   []string
	other    error // no mistake in the configuration
}

func (s *starting) err() error {
	if len(s.problems) > 0 {
		return s.problems
	}
	return s.other
}

func (s *starting) add(field, remedy, format string, args ...any) {
	s.problems = append(s.problems, s.cfg.Mistake(field, remedy, format, args...))
}

func (s *starting) check() {
	s.addAll(config.CheckProxies(os.Getenv))
	s.stateDir()
	s.store()
	s.azure()
	s.socket("control.socket", s.cfg.Control.Socket)
	s.web()
}

func (s *starting) addAll(err error) {
	var problems config.Problems
	if errors.As(err, &problems) {
		s.problems = append(s.problems, problems...)
	}
}

func (s *starting) stateDir() {
	info, err := os.Stat(s.cfg.StateDir)
	if err == nil && !info.IsDir() {
		s.add("state_dir", "move the file away, or write another path", "state_dir: %s is not a directory",
			s.cfg.StateDir)
	}
}

// azure makes the transport and the credential, which sends nothing.
func (s *starting) azure() {
	transport, err := vault.NewTransport(s.cfg.Azure.CAFile)
	if err != nil {
		s.add("azure.ca_file", "write the path of a file with CA certificates (PEM) that keyd's user can read, or "+
			"remove the field", "%v", err)
		return
	}
	if s.planned && s.onlyService() {
		return
	}
	_, err = newCredential(s.cfg, vault.HTTPClient(transport), nil)
	field := "azure.credential"
	if s.cfg.Azure.Credential == config.CredentialClientCertificate {
		field = "azure.certificate_file"
	}
	switch {
	case vault.HasEnded(err):
		s.other = err
	case err != nil:
		s.add(field, "correct what it names, or choose another credential", "%v", err)
	}
}

// onlyService notes what belongs to the service's environment, and reports whether the credential depends on it.
func (s *starting) onlyService() bool {
	a := s.cfg.Azure
	switch {
	case a.CertificateFile != "" && !filepath.IsAbs(a.CertificateFile) && os.Getenv("CREDENTIALS_DIRECTORY") == "":
		s.unseen = append(
			s.unseen,
			fmt.Sprintf("azure.certificate_file: only the service has the systemd credential %s",
				a.CertificateFile),
		)
	case a.Credential == config.CredentialWorkloadIdentity && os.Getenv("AZURE_FEDERATED_TOKEN_FILE") == "":
		s.unseen = append(s.unseen, "azure.credential: only the service has the variables of workload-identity")
	default:
		return false
	}
	return true
}

// socket checks the place of a unix socket. systemd makes a directory directly under /run when it starts the service.
func (s *starting) socket(field, path string) {
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != "/run":
		s.add(
			field,
			"make it with `install -d -o keyd -g keyd -m 0750 "+dir+"`, or write a path in a directory that "+
				"exists",
			"%s: the directory %s does not exist",
			field,
			dir,
		)
		return
	case err != nil:
		return
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
		s.add(field, "move it away, or write another path", "%s: %s exists and is not a socket", field, path)
	}
}

func (s *starting) web() {
	err := web.CheckFile(s.cfg.Web.ConfigFile, !s.cfg.Web.Loopback())
	var wrong *web.FileError
	if errors.As(err, &wrong) {
		s.add("web.web_config_file", wrong.Remedy, "web.web_config_file: %s: %v", wrong.Path, wrong.Err)
	}
}

// readable finds files that this process, often root's, can read and the service cannot: its state directory shows who
// it is.
func (s *starting) readable() {
	files := append(s.cfg.Store.Files(), config.NamedFile{Field: "azure.ca_file", Path: s.cfg.Azure.CAFile},
		config.NamedFile{Field: "azure.certificate_file", Path: s.cfg.Azure.CertificateFile},
		config.NamedFile{Field: "web.web_config_file", Path: s.cfg.Web.ConfigFile})
	for _, file := range files {
		if !filepath.IsAbs(file.Path) {
			continue
		}
		if why := ownership.Unreadable(file.Path, s.cfg.StateDir); why != "" {
			s.add(file.Field, "give the file to the user that keyd.service runs as, or to its group", "%s: %s",
				file.Field, why)
		}
	}
}

// checkHSMSide refuses what keeps keyd-hsm, as a service of its own, from starting. A child of `keyd run` tells that
// instead, which shows it.
func checkHSMSide(cfg *config.Config) error {
	if cfg.HSM.Socket == "" {
		return nil
	}
	s := starting{cfg: cfg}
	s.module()
	s.hsmState()
	s.socket("hsm.socket", cfg.HSM.Socket)
	if _, err := userID(cfg.HSM.User); err != nil {
		s.add("hsm.user", "write the user that keyd.service runs as, or a uid", "hsm.user: unknown user %q",
			cfg.HSM.User)
	}
	return s.err()
}

func (s *starting) module() {
	if _, err := os.Stat(s.cfg.HSM.Module); errors.Is(err, fs.ErrNotExist) {
		s.add("hsm.module", "install the HSM vendor's PKCS#11 library, or correct the path",
			"hsm.module: there is no file %s", s.cfg.HSM.Module)
	}
}
