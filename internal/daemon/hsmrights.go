package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/keyd-project/keyd/internal/config"
	"github.com/keyd-project/keyd/internal/hsm"
)

// rightsOf is what a configuration permits the HSM side.
func rightsOf(cfg *config.Config) (*hsm.Rights, error) {
	vaults := map[string]hsm.VaultRights{}
	for _, v := range cfg.Vaults {
		vaults[v.URL] = hsm.VaultRights{Name: v.Name, Pins: v.KEK.Fingerprints, FirstUse: v.KEK.FirstUse,
			Attest: cfg.Attestation(v.URL), Shared: cfg.Store.Shared()}
	}
	keys := map[string]hsm.KeyRights{}
	for _, p := range cfg.Policies {
		k := hsm.KeyRights{Spares: p.Spares, Budget: p.Budget}
		for _, v := range p.Vaults {
			k.Vaults = append(k.Vaults, v.URL)
		}
		keys[p.Key] = k
	}
	return hsm.NewRights(vaults, keys)
}

// rightsReader is the HSM side's own reading of the configuration. It reads the files again whenever they have changed,
// and replaces what it read only by a valid whole.
type rightsReader struct {
	path     string
	instance string // that this process began with
	log      *slog.Logger

	mu       sync.Mutex
	identity string // of the files that were read last
	rights   *hsm.Rights
	err      error // why the files as they are now cannot be used
}

func newRightsReader(path string, cfg *config.Config, log *slog.Logger) (*rightsReader, error) {
	rights, err := rightsOf(cfg)
	return &rightsReader{path: path, instance: cfg.Instance, log: log, rights: rights}, err
}

// permitted is the hsm.Permitted of the configuration.
func (r *rightsReader) permitted() (*hsm.Rights, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := filesIdentity(r.path); now != r.identity {
		r.identity = now // from before the reading: files that change meanwhile are read again
		r.read()
	}
	if r.err != nil {
		return nil, r.err
	}
	return r.rights, nil
}

func (r *rightsReader) read() {
	next, err := r.load()
	if err != nil {
		r.err = err
		r.log.Error("the configuration cannot be used: the HSM side makes and wraps nothing until it can",
			"error", err.Error())
		return
	}
	changes := r.rights.Changes(next)
	if r.err != nil && len(changes) == 0 {
		r.log.Info("the configuration can be used again, and permits what it did", "digest", next.Digest())
	}
	r.rights, r.err = next, nil
	for i, line := range changes {
		if i == maxChanges {
			r.log.Warn("the configuration permits more that it did not, or less", "changes", len(changes)-maxChanges)
			break
		}
		r.log.Warn("the configuration permits something else than before", "change", line, "digest", next.Digest())
	}
}

// maxChanges are logged one by one.
const maxChanges = 100

func (r *rightsReader) load() (*hsm.Rights, error) {
	cfg, err := config.Load(r.path)
	if err != nil {
		return nil, fmt.Errorf("the configuration has mistakes: %w", err)
	}
	if cfg.Instance != r.instance {
		return nil, fmt.Errorf("the configuration is now that of instance %s, and this process began with %s: "+
			"restart it: systemctl restart %s", cfg.Instance, r.instance, units(cfg))
	}
	return rightsOf(cfg)
}

// filesIdentity changes whenever the configuration's files do.
func filesIdentity(path string) string {
	keyFiles, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "keys.d", "*"))
	var b strings.Builder
	for _, name := range append([]string{path}, keyFiles...) {
		info, err := os.Stat(name)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			continue
		}
		var inode uint64
		var changed syscall.Timespec // owner and mode count, too
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode, changed = st.Ino, st.Ctim
		}
		fmt.Fprintf(&b, "%s %d %d %d %d\n", name, inode, info.Size(), info.ModTime().UnixNano(), changed.Nano())
	}
	return b.String()
}
