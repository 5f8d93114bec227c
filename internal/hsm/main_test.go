package hsm

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyd-project/keyd/internal/key"
	softhsmtest "github.com/keyd-project/keyd/softhsm-test"
)

const (
	childEnvVar  = "KEYD_HSM_TEST_CHILD"
	parentEnvVar = "KEYD_HSM_TEST_PARENT"
	vaultURL     = "https://contoso-weu.vault.azure.net"
	otherURL     = "https://contoso-neu.vault.azure.net"
)

// child is what the test binary does when it is started as the HSM process.
type child struct {
	Config Config
	Pins   map[string]key.Fingerprint
	Hang   string        // a file whose presence makes every generation hang
	Socket string        // listen here instead of descriptor 3
	Limits Timeouts      // of the supervisor
	Ping   time.Duration // between two pings; 0: 100 ms
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnvVar); spec != "" {
		if os.Getenv(parentEnvVar) != "" {
			beParent()
		}
		if err := beChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, "hsm child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beChild(spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	var at Endpoint
	var err error
	if c.Socket == "" {
		at.Listener, err = ChildListener()
	} else {
		at.Listener, err = Listen(c.Socket)
	}
	if err != nil {
		return err
	}
	load := loadModule
	if c.Hang != "" {
		load = func(path string) (module, error) {
			m, err := loadModule(path)
			return hangingModule{m, c.Hang}, err
		}
	}
	return runWith(context.Background(), c.Config, always(generous(c.Pins)), at, load, slog.New(slog.DiscardHandler),
		func() {})
}

// beParent supervises an HSM process, prints its process id, and waits to be killed.
func beParent() {
	_ = os.Unsetenv(parentEnvVar)
	sup := NewSupervisor(ChildConfig{Argv: os.Args[:1], Log: slog.New(slog.DiscardHandler)})
	go func() { _ = sup.Run(context.Background()) }()
	if _, err := sup.Client().Describe(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "hsm parent:", err)
		os.Exit(1)
	}
	fmt.Println(sup.PID())
	select {}
}

// hangingModule never returns from a generation while its file exists.
type hangingModule struct {
	module
	file string
}

func (h hangingModule) GenerateKeyPair(
	s pkcs11.SessionHandle,
	m []*pkcs11.Mechanism,
	pub, priv []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	if _, err := os.Stat(h.file); err == nil {
		_ = os.WriteFile(h.file+".reached", nil, 0o600)
		select {}
	}
	return h.module.GenerateKeyPair(s, m, pub, priv)
}

// rig is a token and an HSM process on it.
type rig struct {
	tok   *softhsmtest.Token
	child child
	sup   *Supervisor
	*Client
	stop func()
}

func newChild(t testing.TB, tok *softhsmtest.Token) child {
	t.Helper()
	return child{
		Config: Config{
			Module: tok.Module, Token: tok.Label, PINFile: tok.PINFile,
			Instance: "test", StateDir: filepath.Join(t.TempDir(), "state"),
		},
		Pins: map[string]key.Fingerprint{vaultURL: "", otherURL: ""},
	}
}

func newRig(t testing.TB) *rig {
	t.Helper()
	tok := softhsmtest.New(t)
	r := start(t, tok, newChild(t, tok))
	// SoftHSM may not show objects that two processes make at the same time.
	if _, err := r.Describe(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// quietRig is a rig whose HSM process gets no more pings: while another process logs in, SoftHSM may answer one with an
// error, and that ends the HSM process.
func quietRig(t testing.TB) *rig {
	t.Helper()
	tok := softhsmtest.New(t)
	c := newChild(t, tok)
	c.Ping = time.Hour
	r := start(t, tok, c)
	eventually(t, "the HSM process has answered the first ping", up(r))
	return r
}

func argv(t testing.TB) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self}
}

func start(t testing.TB, tok *softhsmtest.Token, c child, env ...string) *rig {
	t.Helper()
	return startBy(t, argv(t), tok, c, env...)
}

// startBy starts the HSM process by another command than the test's own.
func startBy(t testing.TB, argv []string, tok *softhsmtest.Token, c child, env ...string) *rig {
	t.Helper()
	sup := NewSupervisor(ChildConfig{
		Argv: argv, Env: environ(t, tok, c, env...),
		Limits:   c.Limits,
		Ping:     cmp.Or(c.Ping, 100*time.Millisecond),
		Pause:    func(int) time.Duration { return 50 * time.Millisecond },
		Log:      slog.New(slog.DiscardHandler),
		Register: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = sup.Run(ctx) })
	r := &rig{tok: tok, child: c, sup: sup, Client: sup.Client()}
	r.stop = func() { cancel(); done.Wait() }
	t.Cleanup(r.stop)
	return r
}

func environ(t testing.TB, tok *softhsmtest.Token, c child, env ...string) []string {
	t.Helper()
	spec, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, childEnvVar+"="+string(spec))
	return append(append(childEnv(os.Environ()), tok.Environ()...), env...)
}

// signal sends a signal to the HSM process and returns the id of that process. While none runs, its id is 0, which
// for kill(2) is the whole process group of the test.
func (r *rig) signal(t testing.TB, s syscall.Signal) (pid int) {
	t.Helper()
	eventually(t, "an HSM process runs", func() bool { pid = r.sup.PID(); return pid != 0 })
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
	return pid
}

func newID(t testing.TB) key.ID {
	t.Helper()
	id, err := key.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// generate makes an RSA-2048 pair and returns its id.
func (r *rig) generate(t testing.TB) key.ID {
	t.Helper()
	id := newID(t)
	if err := r.Generate(t.Context(), id, "sa-cmk-key", 1, key.RSA2048, ""); err != nil {
		t.Fatalf("generate: %v", err)
	}
	return id
}

var oneKEK = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// newKEK returns a KEK whose private key the test has.
func newKEK(t testing.TB, url string) (key.KEK, *rsa.PrivateKey) {
	t.Helper()
	private, err := oneKEK()
	if err != nil {
		t.Fatal(err)
	}
	return kekOf(url, private), private
}

func kekOf(url string, private *rsa.PrivateKey) key.KEK {
	return key.KEK{
		Vault: url, Kid: url + "/keys/keyd-kek/00112233445566778899aabbccddeeff",
		Material: materialOf(&private.PublicKey),
	}
}

func materialOf(pub *rsa.PublicKey) key.Material {
	m, err := key.FromRSA(pub)
	if err != nil {
		panic(err)
	}
	return m
}

func rsaOf(m key.Material) *rsa.PublicKey {
	pub, ok := m.RSA()
	if !ok {
		panic("the material is not RSA, or not known: " + m.State())
	}
	return pub
}

// raw lets a test do on the token what keyd itself never does, from the test's own process. See quietRig.
func raw(t testing.TB, tok *softhsmtest.Token, f func(*pkcs11.Ctx, pkcs11.SessionHandle)) {
	t.Helper()
	if tok.Conf != "" {
		defer setenv(t, "SOFTHSM2_CONF", tok.Conf)()
	}
	m := pkcs11.New(tok.Module)
	if m == nil {
		t.Fatal("cannot load the module")
	}
	defer m.Destroy()
	cfg := Config{Module: tok.Module, Token: tok.Label, Sessions: 1, CallTimeout: time.Minute}
	opened, err := openToken(t.Context(), m, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Finalize() }()
	if err := opened.login([]byte(tok.PIN)); err != nil {
		t.Fatal(err)
	}
	f(m, opened.anchor)
}

func setenv(t testing.TB, name, value string) (restore func()) {
	t.Helper()
	old, had := os.LookupEnv(name)
	if err := os.Setenv(name, value); err != nil {
		t.Fatal(err)
	}
	return func() {
		if had {
			_ = os.Setenv(name, old)
		} else {
			_ = os.Unsetenv(name)
		}
	}
}

// patience is the time limit for a condition on a busy machine.
const patience = 2 * time.Minute

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func wantCode(t testing.TB, err error, code Code, class key.Class) {
	t.Helper()
	if !IsCode(err, code) || key.ClassOf(err) != class {
		t.Errorf("error %v (class %v), want code %s, class %v", err, key.ClassOf(err), code, class)
	}
}
