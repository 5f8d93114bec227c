package emulator

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// BenchmarkGetThroughTheProxy is a whole call: connection, token, answer. By
// -cpu 1,2,… it shows that callers do not wait for each other.
func BenchmarkGetThroughTheProxy(b *testing.B) {
	e, err := Start(Options{Vaults: []VaultConfig{{Host: testVault}}})
	check(b, err)
	defer func() { check(b, e.Close()) }()
	_, err = e.Vault(testVault).AddForeignVersion("k")
	check(b, err)
	token, err := e.signer.mint(DefaultTenantID, "bench", e.Vault(testVault).audience(), time.Now(), time.Hour, 0)
	check(b, err)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		client := &http.Client{Transport: e.Transport()}
		for p.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://"+testVault+"/keys/k?api-version=7.6", nil)
			if err != nil {
				b.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("%d, %v", res.StatusCode, err)
			}
			if err := res.Body.Close(); err != nil {
				b.Error(err)
			}
		}
	})
}
