package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
)

// FileError says what is wrong with exporter-toolkit's web configuration, and what to do.
type FileError struct {
	Path   string
	Remedy string
	Err    error
}

func (e *FileError) Error() string { return fmt.Sprintf("web configuration %s: %v", e.Path, e.Err) }

func (e *FileError) Unwrap() error { return e.Err }

// CheckFile checks a web configuration, "" for none. If other hosts can reach the listener, it must encrypt, and
// know its callers. Errors: a *FileError.
func CheckFile(path string, reachable bool) error {
	if path == "" {
		return nil
	}
	if err := checkMode(path); err != nil {
		return err
	}
	if err := toolkit.Validate(path); err != nil {
		return &FileError{
			path,
			"write it as Prometheus' exporter-toolkit wants it; its paths are relative to it, and " +
				"keyd's user must be able to read all of its files",
			err,
		}
	}
	if !reachable {
		return nil
	}
	c, err := parseFile(path)
	switch {
	case err != nil:
		return &FileError{path, "let keyd's user read it", err}
	case !c.TLSConfig.IsEnabled():
		return &FileError{path, "write tls_server_config with cert_file and key_file, or listen on 127.0.0.1",
			errors.New("it has no TLS, and other hosts can reach web.listen")}
	case len(c.Users) == 0 && !clientsProven(c.TLSConfig):
		return &FileError{path, "write basic_auth_users, or client_auth_type: RequireAndVerifyClientCert with " +
			"client_ca_file, or listen on 127.0.0.1",
			errors.New("it names no users, and other hosts can reach web.listen")}
	}
	return nil
}

// checkMode refuses a file that others than its owner can change: they could let anybody in.
func checkMode(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return &FileError{path, "write it, or correct web.web_config_file", err}
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return &FileError{path, "run chmod go-w " + path,
			fmt.Errorf("it is writable by group or others (mode %04o)", mode)}
	}
	return nil
}

// parseFile reads the toolkit's own type by the toolkit's own parser: its function for that is not exported.
func parseFile(path string) (c toolkit.Config, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	return c, yaml.UnmarshalStrict(data, &c)
}

// clientsProven reports whether every caller needs a certificate of an authority that the file names. Without one, any
// authority that this host trusts could vouch for a caller.
func clientsProven(c toolkit.TLSConfig) bool {
	return c.ClientAuth == "RequireAndVerifyClientCert" && (c.ClientCAs != "" || c.ClientCAsText != "")
}

// armed refuses every request while the file no longer protects a listener that other hosts can reach. The toolkit
// reads the file again for each request, so an edit of it takes effect at once.
func armed(next http.Handler, path string, log *slog.Logger) http.Handler {
	var refused atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := CheckFile(path, true)
		if before := refused.Swap(err != nil); err != nil {
			if !before {
				log.Error("the page and the metrics are not served any more", "error", err.Error())
			}
			text(w, http.StatusServiceUnavailable, "refused: the web configuration no longer has TLS and users")
			return
		}
		next.ServeHTTP(w, r)
	})
}
