package bench_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/quota"
)

const (
	emergencyKeys = 100
	emergencySpec = key.RSA2048
)

// BenchmarkEmergencyRotation compares the rotation of a hundred keys that each have a spare with the same calls made
// by a bare program. Both keep to keyd's share of the vault's limits.
func BenchmarkEmergencyRotation(b *testing.B) {
	for b.Loop() {
		w := newWorld(b)
		w.spares = 1
		w.start(string(emergencySpec), emergencyKeys)
		w.settle()
		bare := w.run(job{Do: "emergency", Key: "bare", Bits: emergencySpec.Bits(), Times: emergencyKeys})
		bareHTTPS := w.calls()
		bareHTTPS["get"]-- // of the key exchange key, at its start
		began := time.Now()
		w.rotateAll(w.keys)
		took := time.Since(began)
		https := w.calls()
		printed(fmt.Sprintf("%d keys with spares at once, %s", emergencyKeys, emergencySpec), "bare calls", []compared{
			times("by the clock", took, bare.Wall, "1.3 at most"),
			numbers("HTTPS calls", float64(https.Sum())/emergencyKeys, float64(bareHTTPS.Sum())/emergencyKeys),
		})
	}
	b.ReportMetric(0, "ns/op")
}

// bareEmergency rotates keys one after the other, within the limits.
func bareEmergency(j job) (o outcome, err error) {
	t, err := openToken(j)
	if err != nil {
		return o, err
	}
	v, err := signIn(j.Vault)
	if err != nil {
		return o, err
	}
	r, err := newBareRotation(j, t, v)
	if err != nil {
		return o, err
	}
	r.vault.limit = withinShare()
	began := time.Now()
	for i := range j.Times {
		r.Key = fmt.Sprintf("%s-%02d", j.Key, i)
		if err := r.once(); err != nil {
			return o, err
		}
	}
	return outcome{Wall: time.Since(began)}, nil
}

// withinShare waits before each call until keyd's share of a Key Vault allows it.
func withinShare() func(method string) {
	v := quota.Vault{Vault: key.Vault{Kind: key.KeyVault}, Share: quota.DefaultShare}
	bucket := func(b quota.Bucket) *rate.Limiter {
		return rate.NewLimiter(rate.Limit(v.PerSecond()), max(int(v.PerSecond()), quota.Dearest(v.Kind, b)))
	}
	calls, imports := bucket(quota.Calls), bucket(quota.Imports)
	return func(method string) {
		ctx := context.Background()
		o := quota.Read // as every call on a key of the same size
		if method == http.MethodPut {
			o = quota.Import
			_ = imports.WaitN(ctx, quota.Cost(v.Kind, quota.Imports, o, emergencySpec)) // it has no deadline to miss
		}
		_ = calls.WaitN(ctx, quota.Cost(v.Kind, quota.Calls, o, emergencySpec))
	}
}
