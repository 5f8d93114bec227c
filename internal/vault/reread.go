package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/keyd-project/keyd/internal/ownership"
)

// Credential signs in to Azure. If it comes from a file (a client certificate, a federated token), it follows changes
// of the file. It is safe for concurrent use.
type Credential struct {
	cfg  CredentialConfig
	file string // "" for kinds without one

	mu    sync.Mutex
	sum   [sha256.Size]byte // of the file when it was last read
	inner azcore.TokenCredential
	ends  time.Time
	err   error // why keyd does not use the current file
	read  int   // how often keyd read a changed file

	lacking audiences
}

// CredentialState describes a credential's file, and how keyd's sign-ins end.
type CredentialState struct {
	Kind string
	File string    // "" for kinds without one
	Ends time.Time // of the client certificate in use; zero for other kinds
	// Err says why keyd cannot use the current file; keyd then continues with what it read before.
	Err error
	// Renewals is how often keyd read a changed file; it only grows.
	Renewals int
	NoTokens []NoToken // the longest first; none while each sign-in works
}

// begin makes the credential for the first time. A certificate must be valid now; a federated token may come later.
func (c *Credential) begin() (err error) {
	if c.cfg.Kind != ClientCertificate {
		c.inner, err = c.cfg.build()
		c.Reread() // so that only later changes count as renewals
		return err
	}
	if c.cfg.TenantID == "" || c.cfg.ClientID == "" || c.cfg.CertificateFile == "" {
		return errors.New("tenant_id, client_id and certificate_file are all needed")
	}
	c.Reread()
	return c.err
}

// Reread reads the credential's file and uses it if it has changed and is usable. Without a change it only reads one
// small file.
func (c *Credential) Reread() CredentialState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != "" {
		c.reread()
	}
	return CredentialState{Kind: c.cfg.Kind, File: c.file, Ends: c.ends, Err: c.err, Renewals: c.read,
		NoTokens: c.lacking.list()}
}

// signedIn keeps how a sign-in ended. The metric must not be later than what follows from it.
func (c *Credential) signedIn(ctx context.Context, o policy.TokenRequestOptions, ofVaults bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lacking.note(ctx, o, ofVaults, c.cfg.Clock(), err) {
		c.cfg.Metrics.noTokens(c.lacking.list())
	}
}

func (c *Credential) reread() {
	data, err := c.readFile()
	if err != nil {
		c.err, c.sum = fmt.Errorf("read the credential: %w", err), [sha256.Size]byte{}
		return
	}
	sum := sha256.Sum256(data)
	if sum == c.sum {
		return
	}
	c.sum = sum
	inner, ends, err := c.make(data)
	if c.err = err; err == nil {
		c.inner, c.ends = inner, ends
		c.read++
	}
}

// readFile refuses a certificate that others than root and keyd may exchange: who does that signs in as keyd. The
// federated token is the platform's, and so is its folder.
func (c *Credential) readFile() ([]byte, error) {
	if c.cfg.Kind == ClientCertificate {
		return ownership.ReadFile(c.file)
	}
	return os.ReadFile(c.file)
}

func (c *Credential) make(data []byte) (inner azcore.TokenCredential, ends time.Time, err error) {
	if c.cfg.Kind == WorkloadIdentity {
		// The SDK reads the file itself, and does not read it again for ten minutes.
		inner, err = c.cfg.build()
		return inner, time.Time{}, err
	}
	certificate, err := parseCertificate(data, c.file)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("certificate_file %s: %w", c.file, err)
	}
	if ends = certificate.ends(); !c.cfg.Clock().Before(ends) {
		return nil, time.Time{}, fmt.Errorf("certificate_file: %w", &hasEnded{c.file, ends})
	}
	inner, err = certificate.credential(c.cfg)
	return inner, ends, err
}

// GetToken signs in with the current file, or with its previous content if the current one is unusable. It never
// presents an expired certificate.
func (c *Credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.Reread()
	c.mu.Lock()
	inner, ends := c.inner, c.ends
	c.mu.Unlock()
	if !ends.IsZero() && !c.cfg.Clock().Before(ends) {
		return azcore.AccessToken{}, &hasEnded{c.file, ends}
	}
	return inner.GetToken(ctx, o)
}

// hint says what to do about a failed sign-in, for each kind of credential.
func (c *Credential) hint() string {
	const again = "; keyd reads the file again when it changes"
	switch c.cfg.Kind {
	case ManagedIdentity:
		return "check that the managed identity (azure.client_id, or the machine's own) is assigned to this machine, " +
			"and that NO_PROXY holds 169.254.169.254 where a proxy is set"
	case WorkloadIdentity:
		return fmt.Sprintf(
			"check that %s holds the token of this workload, and that the application's federated credential "+
				"names its issuer, subject and audience", c.file,
		) + again
	case ClientCertificate:
		return fmt.Sprintf("check that the certificate in %s is registered with the application azure.client_id in "+
			"azure.tenant_id and has not ended, and this machine's clock", c.file) + again
	}
	return "the error lists what each way to sign in returned: prepare one of them, and name it in azure.credential " +
		"instead of default"
}
