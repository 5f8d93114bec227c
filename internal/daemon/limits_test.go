package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyd-project/keyd/internal/config"
)

func TestTheStartSaysWhatDoesNotFitTheLimits(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keyd.yaml")
	text := fmt.Sprintf(smallConfig, dir) + `
vaults: {weu: {url: "https://contoso-weu.vault.azure.net", share: 0.05}}
keys: {one: {vaults: [weu]}}
health: {newest: 1s}
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	d, err := build(Options{ConfigPath: path, Version: "test", Logger: slog.New(slog.NewTextHandler(&log, nil))}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.store.Close(); err != nil {
			t.Error(err)
		}
	})
	const want = "1 key proven every 1 second needs 2.0 calls/s of vault weu; keyd may use 1.2: newest versions are " +
		"proven every 2 seconds"
	if !strings.Contains(log.String(), want) {
		t.Errorf("%q is not in the log:\n%s", want, log.String())
	}
}
