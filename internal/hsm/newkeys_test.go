package hsm

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/sys/unix"

	"github.com/keyd-project/keyd/internal/key"
)

// BenchmarkNewKeys compares what the HSM side does for a new key, from the first look to the proof of its import, with
// a bare program that only makes a pair. They take turns on one token. It fills with keyd's pairs meanwhile, so that
// searches cost more and more. All figures are CPU time. How long a pair takes is luck, so gen-ratio compares keyd with
// its own C_GenerateKeyPair. bare-ratio compares it with the bare program's pairs, which shows the same with the noise
// of both. The goal is 1.3 at most.
//
// KEYD_BENCH_KEYS says how many keys; without it there are few.
func BenchmarkNewKeys(b *testing.B) {
	keys := 30
	if n, err := strconv.Atoi(os.Getenv("KEYD_BENCH_KEYS")); err == nil && n > 0 {
		keys = n
	}
	for b.Loop() {
		var timed *timedGenerate
		e := inProcess(b, func(real module) module { timed = &timedGenerate{module: real}; return timed })
		if _, err := e.MakeAuditKey(b.Context()); err != nil {
			b.Fatal(err)
		}
		timed.spent = 0
		kek, _ := newKEK(b, vaultURL)
		var bare, whole time.Duration
		for n := range keys {
			begun := cpu(unix.RUSAGE_SELF)
			var made []pkcs11.ObjectHandle
			if err := use(e.tok, false, func(s session) error {
				public, private := pairTemplates(newID(b).Bytes(), fmt.Sprint("bare-", n), 2048, true, true)
				first, second, err := timed.module.GenerateKeyPair(
					s.h, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), public, private,
				)
				made = []pkcs11.ObjectHandle{first, second}
				return err
			}); err != nil {
				b.Fatal(err)
			}
			bare += cpu(unix.RUSAGE_SELF) - begun
			if err := use(e.tok, false, func(s session) error { s.drop(made...); return nil }); err != nil {
				b.Fatal(err)
			}
			begun = cpu(unix.RUSAGE_SELF)
			newKey(b, e, kek, n+1)
			whole += cpu(unix.RUSAGE_SELF) - begun
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(micros(bare)/1000/float64(keys), "bare-ms/key")
		b.ReportMetric(micros(whole)/1000/float64(keys), "keyd-ms/key")
		b.ReportMetric(micros(whole)/micros(bare), "bare-ratio")
		b.ReportMetric(micros(whole)/micros(timed.spent), "gen-ratio")
	}
}

// newKey does what a new key needs of the HSM side: a look before each step, and the steps.
func newKey(b *testing.B, e *engine, kek key.KEK, number int) {
	b.Helper()
	id, secret := newID(b), []byte("secret")
	look := func(pairs int) {
		if found, err := e.Find(b.Context(), id); err != nil || len(found) != pairs {
			b.Fatal(found, err)
		}
	}
	look(0)
	if err := e.Generate(b.Context(), id, "sa-cmk-key", number, key.RSA2048, ""); err != nil {
		b.Fatal(err)
	}
	look(1)
	public, err := e.PublicKey(b.Context(), id)
	if err != nil {
		b.Fatal(err)
	}
	look(1)
	if _, present, err := e.AuditKey(b.Context()); err != nil || !present {
		b.Fatal(present, err)
	}
	if _, _, err := e.SignCheckpoint(b.Context(), entries(1, 3).after(nil)); err != nil {
		b.Fatal(err)
	}
	if _, err := e.WrapFor(b.Context(), id, kek); err != nil {
		b.Fatal(err)
	}
	if yes, err := e.Opens(b.Context(), id, seal(b, public, secret), sha256.Sum256(secret)); err != nil || !yes {
		b.Fatal(yes, err)
	}
}

// timedGenerate is a real module that adds up the CPU time of its C_GenerateKeyPair.
type timedGenerate struct {
	module
	spent time.Duration
}

func (m *timedGenerate) GenerateKeyPair(
	s pkcs11.SessionHandle, mech []*pkcs11.Mechanism, public, private []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := cpu(unix.RUSAGE_THREAD)
	defer func() { m.spent += cpu(unix.RUSAGE_THREAD) - begun }()
	return m.module.GenerateKeyPair(s, mech, public, private)
}

// cpu is the CPU time that a process or thread used.
func cpu(who int) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(who, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
