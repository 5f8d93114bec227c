package bench_test

import (
	"bytes"
	"crypto/rsa" //nolint:gosec // CKM_RSA_AES_KEY_WRAP of the BYOK transfer is defined with OAEP-SHA-1
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/pkcs11"
)

// bareJob names the environment variable that makes this program a process that does a job.
const bareJob = "KEYD_BENCH_BARE"

// job is what a process of its own does, so that what it uses can be measured.
type job struct {
	Do              string // a name in the table of jobs
	Module, PINFile string
	Vault, Key, KEK string // Vault is a URL
	Bits, Times     int
	Pairs           []string // their CKA_IDs in hex
	Copies          []copied
	Keyd, Config    string   // the program and its configuration
	Records         []string // of the keys whose pairs these are, in JSON
}

// copied is a version in the vault that was made of a pair.
type copied struct {
	Key, Version string
	Pair         int
}

// outcome is what a job measured, without its own start.
type outcome struct {
	Processor, Wall time.Duration
	Copies          []copied
}

// jobs are what such a process can do.
func jobs() map[string]func(job) (outcome, error) {
	return map[string]func(job) (outcome, error){
		"rotate": bareRotations, "emergency": bareEmergency,
		"copy": bareCopies, "prove": bareProofs, "open": bareOpenings, "health": keydProofs,
	}
}

// run runs a job to its end.
func (w *world) run(j job) (o outcome) {
	w.b.Helper()
	j.Module, j.PINFile, j.Vault, j.KEK = w.library.Module, w.token.PINFile, "https://"+vaultHost, kekName
	text, err := json.Marshal(j)
	if err != nil {
		w.b.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = slices.Concat(w.env, w.library.Environ("bare"), []string{bareJob + "=" + string(text)})
	cmd.Stderr = os.Stderr
	said, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(said, &o)
	}
	if err != nil {
		w.b.Fatalf("%s: %v: %s", j.Do, err, said)
	}
	return o
}

// do is the whole of such a process.
func do(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	o, err := jobs()[j.Do](j)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for no process of its own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareToken is a session that is logged in.
type bareToken struct {
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
	slot    uint
}

func openToken(j job) (t bareToken, err error) {
	pin, err := os.ReadFile(j.PINFile)
	if err != nil {
		return t, err
	}
	if t.ctx = pkcs11.New(j.Module); t.ctx == nil {
		return t, fmt.Errorf("%s does not load", j.Module)
	}
	if err := t.ctx.Initialize(); err != nil {
		return t, err
	}
	slots, err := t.ctx.GetSlotList(true)
	if err != nil || len(slots) == 0 {
		return t, errors.Join(err, errors.New("no token"))
	}
	t.slot = slots[0]
	if t.session, err = t.open(); err != nil {
		return t, err
	}
	return t, t.ctx.Login(t.session, pkcs11.CKU_USER, strings.TrimSpace(string(pin)))
}

func (t bareToken) open() (pkcs11.SessionHandle, error) {
	return t.ctx.OpenSession(t.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
}

func mechanism(m uint, params any) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m, params)}
}

func oaepSHA1() *pkcs11.OAEPParams {
	return pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil)
}

// generate makes a pair with keyd's attributes.
func (t bareToken) generate(bits int) (public, private pkcs11.ObjectHandle, err error) {
	a := pkcs11.NewAttribute
	return t.ctx.GenerateKeyPair(t.session, mechanism(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, nil), []*pkcs11.Attribute{
		a(pkcs11.CKA_TOKEN, true), a(pkcs11.CKA_MODULUS_BITS, bits), a(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
		a(pkcs11.CKA_ENCRYPT, true),
	}, []*pkcs11.Attribute{
		a(pkcs11.CKA_TOKEN, true), a(pkcs11.CKA_PRIVATE, true), a(pkcs11.CKA_SENSITIVE, true),
		a(pkcs11.CKA_EXTRACTABLE, true), a(pkcs11.CKA_DECRYPT, true),
	})
}

func (t bareToken) publicKey(h pkcs11.ObjectHandle) (*rsa.PublicKey, error) {
	got, err := t.ctx.GetAttributeValue(t.session, h, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil),
	})
	if err != nil {
		return nil, err
	}
	return &rsa.PublicKey{
		N: new(big.Int).SetBytes(got[0].Value),
		E: int(new(big.Int).SetBytes(got[1].Value).Int64()),
	}, nil
}

// wrap is CKM_RSA_AES_KEY_WRAP by hand, as keyd does it on SoftHSM.
func (t bareToken) wrap(kek *rsa.PublicKey, private pkcs11.ObjectHandle) ([]byte, error) {
	a := pkcs11.NewAttribute
	k, err := t.ctx.CreateObject(t.session, []*pkcs11.Attribute{
		a(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), a(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		a(pkcs11.CKA_TOKEN, false), a(pkcs11.CKA_WRAP, true),
		a(pkcs11.CKA_MODULUS, kek.N.Bytes()), a(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(kek.E)).Bytes()),
	})
	if err != nil {
		return nil, err
	}
	aes, err := t.ctx.GenerateKey(t.session, mechanism(pkcs11.CKM_AES_KEY_GEN, nil), []*pkcs11.Attribute{
		a(
			pkcs11.CKA_TOKEN,
			false,
		), a(pkcs11.CKA_VALUE_LEN, 32), a(pkcs11.CKA_EXTRACTABLE, true), a(pkcs11.CKA_WRAP, true),
	})
	if err != nil {
		return nil, err
	}
	head, headErr := t.ctx.WrapKey(t.session, mechanism(pkcs11.CKM_RSA_PKCS_OAEP, oaepSHA1()), k, aes)
	tail, tailErr := t.ctx.WrapKey(t.session, mechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, nil), aes, private)
	return append(head, tail...), errors.Join(headErr, tailErr, t.ctx.DestroyObject(t.session, aes),
		t.ctx.DestroyObject(t.session, k))
}

func (t bareToken) decrypt(s pkcs11.SessionHandle, private pkcs11.ObjectHandle, ciphertext []byte) ([]byte, error) {
	if err := t.ctx.DecryptInit(s, mechanism(pkcs11.CKM_RSA_PKCS_OAEP, oaepSHA1()), private); err != nil {
		return nil, err
	}
	return t.ctx.Decrypt(s, ciphertext)
}

// bareVault is a vault with a token to it.
type bareVault struct {
	url, token string
	client     *http.Client
	limit      func(method string) // waits until the call may be sent; nil for no limit
}

func signIn(vault string) (v bareVault, err error) {
	v = bareVault{url: vault, client: &http.Client{}}
	req, err := http.NewRequest(http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token"+
		"?api-version=2018-02-01&resource=https://vault.azure.net", nil)
	if err != nil {
		return v, err
	}
	req.Header.Set("Metadata", "true")
	var answer struct {
		Token string `json:"access_token"`
	}
	err = v.do(req, &answer)
	v.token = answer.Token
	return v, err
}

// call sends a request; body and answer are nil for none.
func (v bareVault) call(method, path string, body, answer any) error {
	if v.limit != nil {
		v.limit(method)
	}
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, v.url+path+"?api-version=7.6", text)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return v.do(req, answer)
}

func (v bareVault) do(req *http.Request, answer any) error {
	req.Header.Set("Authorization", "Bearer "+v.token)
	resp, err := v.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL, resp.Status, body))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}

// keyBundle is what a vault answers about a key.
type keyBundle struct {
	Key struct {
		Kid string `json:"kid"`
		N   string `json:"n"`
		E   string `json:"e"`
	} `json:"key"`
}

func (b keyBundle) publicKey() (*rsa.PublicKey, error) {
	n, nErr := base64.RawURLEncoding.DecodeString(b.Key.N)
	e, eErr := base64.RawURLEncoding.DecodeString(b.Key.E)
	return &rsa.PublicKey{
			N: new(big.Int).SetBytes(n),
			E: int(new(big.Int).SetBytes(e).Int64()),
		}, errors.Join(
			nErr,
			eErr,
		)
}

type cryptoRequest struct {
	Alg   string `json:"alg"`
	Value string `json:"value"`
}

// crypto has the vault wrap or unwrap, by the path of the operation.
func (v bareVault) crypto(path string, value []byte) ([]byte, error) {
	var answer struct {
		Value string `json:"value"`
	}
	q := cryptoRequest{Alg: "RSA-OAEP", Value: base64.RawURLEncoding.EncodeToString(value)}
	if err := v.call(http.MethodPost, path, q, &answer); err != nil {
		return nil, err
	}
	return base64.RawURLEncoding.DecodeString(answer.Value)
}
