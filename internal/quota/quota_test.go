package quota_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyd-project/keyd/internal/key"
	"github.com/keyd-project/keyd/internal/quota"
)

var wrapping = []key.Operation{key.WrapKey, key.UnwrapKey}

func TestACallCostsItsPartOfWhatIsPublished(t *testing.T) {
	for _, c := range []struct {
		kind    key.VaultKind
		bucket  quota.Bucket
		op      quota.Operation
		spec    key.Spec
		allowed int // in a period
	}{
		{key.KeyVault, quota.Calls, quota.Read, key.RSA2048, 2000},
		{key.KeyVault, quota.Calls, quota.Decrypt, key.RSA2048, 2000},
		{key.KeyVault, quota.Calls, quota.Read, key.RSA3072, 500},
		{key.KeyVault, quota.Calls, quota.Encrypt, key.RSA4096, 250},
		{key.KeyVault, quota.Calls, quota.Read, "", 250},
		{key.KeyVault, quota.Creates, quota.Create, key.RSA2048, 10},
		{key.KeyVault, quota.Imports, quota.Import, key.RSA4096, 300},
		{key.ManagedHSM, quota.Calls, quota.Read, key.RSA4096, 1100},
		{key.ManagedHSM, quota.Calls, quota.Decrypt, key.RSA2048, 1100},
		{key.ManagedHSM, quota.Calls, quota.Decrypt, key.RSA4096, 160},
		{key.ManagedHSM, quota.Calls, quota.Encrypt, key.RSA4096, 1900},
		{key.ManagedHSM, quota.Creates, quota.Create, key.RSA4096, 1},
	} {
		cost := quota.Cost(c.kind, c.bucket, c.op, c.spec)
		if n := quota.Whole / cost; n > c.allowed || n < c.allowed*99/100 {
			t.Errorf(
				"%s, bucket %d, operation %d, %s: %d calls in a period, want %d",
				c.kind,
				c.bucket,
				c.op,
				c.spec,
				n,
				c.allowed,
			)
		}
	}
}

func TestNoCallCostsMoreThanTheDearest(t *testing.T) {
	for _, kind := range []key.VaultKind{key.KeyVault, key.ManagedHSM} {
		for o := quota.Read; o <= quota.Import; o++ {
			for _, b := range o.Buckets() {
				for _, spec := range append(key.Specs(), "") {
					if quota.Cost(kind, b, o, spec) > quota.Dearest(kind, b) {
						t.Errorf("%s: operation %d with %s costs more than the dearest", kind, o, spec)
					}
				}
			}
		}
	}
}

// vaults are n Key Vaults of one subscription.
func vaults(n int, share float64) []quota.Vault {
	all := make([]quota.Vault, n)
	for i := range all {
		name := fmt.Sprintf("v%d", i+1)
		all[i] = quota.Vault{
			Vault: key.Vault{
				Name: name,
				URL:  "https://" + name + ".vault.azure.net",
				Kind: key.KeyVault,
			}, Share: share,
		}
	}
	return all
}

// newest is n newest versions in each of the vaults.
func newest(n int, spec key.Spec, in []quota.Vault) map[string]quota.Proofs {
	all := map[string]quota.Proofs{}
	for _, v := range in {
		var p quota.Proofs
		for range n {
			p.AddNewest(v.Kind, spec, wrapping)
		}
		all[v.URL] = p
	}
	return all
}

var pace = quota.Pace{Newest: 5 * time.Minute, Older: 24 * time.Hour}

func TestProofsThatDoNotFitAreProvenAsOftenAsTheLimitsAllow(t *testing.T) {
	one := vaults(1, 0.5)
	f := quota.FitProofs(one, 0.5, pace, newest(2000, key.RSA4096, one))[0]
	const want = "2000 keys proven every 5 minutes need 13.3 calls/s of vault v1; keyd may use 12.5: newest " +
		"versions are proven every 6 minutes"
	if diff := cmp.Diff(want, f.String()); diff != "" || f.Fits() {
		t.Errorf("fits %t: %s", f.Fits(), diff)
	}
}

func TestProofsThatFitStayAsConfigured(t *testing.T) {
	one := vaults(1, 0.5)
	for n, spec := range map[int]key.Spec{1875: key.RSA4096, 3750: key.RSA3072, 15_000: key.RSA2048, 0: key.RSA2048} {
		f := quota.FitProofs(one, 0.5, pace, newest(n, spec, one))[0]
		if !f.Fits() {
			t.Errorf("%d keys of %s: %s", n, spec, f)
		}
		if n == 0 {
			continue
		}
		if f := quota.FitProofs(one, 0.5, pace, newest(n+1, spec, one))[0]; f.Fits() {
			t.Errorf("one more than %d keys of %s fits", n, spec)
		}
	}
}

func TestOlderVersionsTakeTheirPart(t *testing.T) {
	one := vaults(1, 0.5)
	proofs := newest(1800, key.RSA4096, one)
	p := proofs[one[0].URL]
	for range 108_000 {
		p.AddOlder(key.KeyVault, key.RSA4096, wrapping)
	}
	proofs[one[0].URL] = p
	f := quota.FitProofs(one, 0.5, pace, proofs)[0]
	const want = "1800 keys proven every 5 minutes and 108000 older versions every 24 hours need 15.8 calls/s " +
		"of vault v1; keyd may use 12.5: newest versions are proven every 7 minutes, older ones every 31 hours"
	if diff := cmp.Diff(want, f.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTheVaultsOfASubscriptionShareFiveVaultsWorth(t *testing.T) {
	ten := vaults(10, 0.5)
	proofs := newest(1800, key.RSA4096, ten)
	for _, f := range quota.FitProofs(ten, 0.5, pace, proofs) {
		if f.Possible.Newest != 10*time.Minute { // ten vaults need 120 calls/s, and the subscription grants 62.5
			t.Errorf("in one subscription: %s", f)
		}
	}
	for i := range ten {
		ten[i].Subscription = []string{"a", "b"}[i%2]
	}
	for _, f := range quota.FitProofs(ten, 0.5, pace, proofs) {
		if !f.Fits() {
			t.Errorf("in two subscriptions: %s", f)
		}
	}
}

func TestAManagedHSMTakesNothingFromTheSubscription(t *testing.T) {
	all := vaults(6, 0.5)
	for i := range all {
		all[i].Kind = key.ManagedHSM
	}
	for _, f := range quota.FitProofs(all, 0.01, pace, newest(5000, key.RSA4096, all)) {
		if !f.Fits() {
			t.Errorf("%s", f)
		}
	}
}

func TestAKeyThatSignsIsProvenByOneCall(t *testing.T) {
	var p quota.Proofs
	p.AddNewest(key.KeyVault, key.RSA2048, []key.Operation{key.Sign, key.Verify})
	p.AddNewest(key.KeyVault, key.RSA2048, wrapping)
	if diff := cmp.Diff(quota.Batch{Versions: 2, Calls: 3, Cost: 1500}, p.Newest); diff != "" {
		t.Error(diff)
	}
}
