package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyd-project/keyd/internal/attest"
	"github.com/keyd-project/keyd/internal/key"
)

// Config is the content of keyd.yaml and keys.d/*.yaml, with defaults filled in.
type Config struct {
	Files    []string // every file read, the main one first
	Instance string   // 1 to 127 of 0-9, a-z, A-Z and -
	StateDir string   // absolute
	Store    Store
	// Host is this host's name among those of the instance; "" where one host has the state and nobody is in People.
	Host string
	// People are the persons who may approve, on each host. Without any, uid and login tell persons apart.
	People   People
	HSM      HSM
	Azure    Azure
	Vaults   []Vault      // in the order of the files
	Policies []key.Policy // sorted by key name
	Control  Control
	// Approvals says which acts need a second operator.
	Approvals Approvals
	Web       Web
	Health    Health
	Log       Log

	settings []Setting
	digest   string
}

// HSM says which token the HSM side opens, and how to reach it.
type HSM struct {
	Module string // absolute path of the PKCS#11 library
	// The token is the one that matches every one of these that is not empty
	// (CK_TOKEN_INFO, PKCS#11 v3.0 section 3.3).
	Token, Serial, Model, Manufacturer string
	PINFile                            string // as written; see package pin
	Socket                             string // of keyd-hsm; "": a child process of keyd run
	User                               string // name or uid that may connect to Socket
	StateDir                           string // where the HSM side stores what it trusts
	Sessions                           int
	CallTimeout                        time.Duration // for every call but a generation
	GenerateTimeout                    time.Duration
	WrapMechanism                      uint // a vendor's number for RFC 5649; 0: none
	// TestRoots take the place of the HSM vendor's roots of attestations. For tests only; nil: none.
	TestRoots []attest.Root

	pinAt position
}

// Azure says how keyd signs in.
type Azure struct {
	Credential      string // one of the Credential constants
	ClientID        string // UUID, or ""
	TenantID        string // UUID or domain name, or ""
	CertificateFile string // as written; see CertificatePath
	Cloud           string // one of the Cloud constants
	CAFile          string // absolute path of more CA certificates in PEM, or ""
	// SubscriptionShare is how much keyd may use of what each subscription allows its Key Vaults together.
	SubscriptionShare float64
	// Subscriptions are those that keyd searches for consumers: UUIDs in lower case. Empty: it searches none.
	Subscriptions []string

	certificateAt position
}

// CertificatePath is the path of the client certificate with its private key
// (PEM or PKCS#12): CertificateFile when absolute, otherwise the systemd
// credential of that name.
func (a Azure) CertificatePath() (string, error) { return credentialPath(a.CertificateFile) }

// The kinds of credential.
const (
	CredentialManagedIdentity   = "managed-identity"
	CredentialWorkloadIdentity  = "workload-identity"
	CredentialClientCertificate = "client-certificate"
	CredentialDefault           = "default" // azidentity's chain: for development
)

// The Azure clouds.
const (
	CloudPublic       = "public"
	CloudChina        = "china"
	CloudUSGovernment = "usgovernment"
)

// Vault is one destination with its key exchange key.
type Vault struct {
	key.Vault
	KEK          KEK
	Share        float64 // how much keyd may use of what the vault allows
	Subscription string  // UUID in lower case; "": that of all vaults that name none
	Workspace    string  // UUID of the Log Analytics workspace with its audit log, in lower case; "": none
}

// KEK is the configuration of a vault's key exchange key.
type KEK struct {
	Name         string
	Fingerprints []key.Fingerprint // the approved ones
	FirstUse     bool              // without fingerprints: keyd trusts the first one used
	// PartitionRoot pins the Managed HSM by its attestations; "": none.
	PartitionRoot key.Fingerprint
	Attested      bool         // it must be attested
	Create        bool         // keyd makes it
	Bits          int          // size when made: 2048, 3072 or 4096
	Schedule      key.Schedule // when a new one is made; nil: only on request
	ScheduleText  string       // as written
}

// Control is the unix socket by which operators reach the daemon.
type Control struct {
	Socket    string
	Operators []uint32 // uids that may act on this host, besides root and the daemon's own
	// OperatorNames are the operators who are in People, with a uid on this host or without.
	OperatorNames []string
	Group         string // name or gid that may read
}

// Web is the listener for metrics and the status page.
type Web struct {
	Listen     string // host:port; the host is loopback unless ConfigFile is set
	ConfigFile string // exporter-toolkit's web configuration, or ""
}

// Health says how often keyd observes and proves.
type Health struct {
	Newest time.Duration // between proofs of a key's newest version
	Older  time.Duration // between proofs of an older one
	Look   time.Duration // between observations of a vault with nothing due
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json
}

// Vault returns the configured vault with this canonical URL.
func (c *Config) Vault(url string) (Vault, bool) {
	for _, v := range c.Vaults {
		if v.URL == url {
			return v, true
		}
	}
	return Vault{}, false
}

// VaultPolicies returns what the configuration asks for each vault's KEK.
func (c *Config) VaultPolicies() []key.VaultPolicy {
	policies := make([]key.VaultPolicy, len(c.Vaults))
	for i, v := range c.Vaults {
		policies[i] = key.VaultPolicy{Vault: v.Vault, KEK: v.KEK.Name, Create: v.KEK.Create,
			Schedule: v.KEK.Schedule, ScheduleText: v.KEK.ScheduleText}
	}
	return policies
}

// Load reads the main file at path and keys.d/*.yaml beside it. The error is Problems:
// every mistake, ordered by file and line.
func Load(path string) (*Config, error) { return load(path, &report{}) }

// LoadToShow is Load that keeps the settings of the keys, too: a daemon with many keys has no use for them.
func LoadToShow(path string) (*Config, error) { return load(path, &report{keySettings: true}) }

func load(path string, rep *report) (*Config, error) {
	sources := readAll(path, rep)
	c := build(sources, rep)
	checkSecretFiles(c, rep)
	if err := rep.err(); err != nil {
		return nil, err
	}
	c.settings = rep.settings
	c.digest = digestOf(sources)
	if !c.Store.Shared() {
		return c, nil
	}
	var err error
	c.digest, err = SharedDigest(c)
	return c, err
}

// credentialPath resolves the absolute path of a file, or the name of a systemd
// credential (systemd.exec(5), LoadCredential=).
func credentialPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir := os.Getenv(credentialsDirectory)
	if dir == "" {
		return "",
			fmt.Errorf("%q names a systemd credential, but $%s is not set: add LoadCredential=%s:/path to the unit, "+
				"or write an absolute path",
				name, credentialsDirectory, name)
	}
	return filepath.Join(dir, name), nil
}

const credentialsDirectory = "CREDENTIALS_DIRECTORY"

func isCredentialName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00\n")
}
