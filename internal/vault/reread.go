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
)

// Credential signs in to Azure. One that is made from a file (a client certificate, a
// federated token) is made again when the file changes. It is safe for concurrent use.
type Credential struct {
	cfg  CredentialConfig
	file string // "" for kinds without one

	mu    sync.Mutex
	sum   [sha256.Size]byte // of the file when it was last read
	inner azcore.TokenCredential
	ends  time.Time
	err   error // why the file as it is now is not used
	read  int   // how often a change was taken over
}

// CredentialState is what is to be known of a credential's file.
type CredentialState struct {
	Kind string
	File string    // "" for kinds without one
	Ends time.Time // of the client certificate in use; zero for other kinds
	// Err is why the file as it is now cannot be used; keyd then goes on with what it
	// read before.
	Err error
	// Renewals is how often a changed file was taken over; it only grows.
	Renewals int
}

// begin makes the credential for the first time. A certificate must be good; a
// federated token may come later.
func (c *Credential) begin() (err error) {
	if c.cfg.Kind != ClientCertificate {
		c.inner, err = c.cfg.build()
		c.Reread() // so that only a later change counts as one
		return err
	}
	if c.cfg.TenantID == "" || c.cfg.ClientID == "" || c.cfg.CertificateFile == "" {
		return errors.New("tenant_id, client_id and certificate_file are all needed")
	}
	c.Reread()
	return c.err
}

// Reread reads the credential's file, and takes over what has changed and can be used.
// Without a change it costs one reading of a small file.
func (c *Credential) Reread() CredentialState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file != "" {
		c.reread()
	}
	return CredentialState{Kind: c.cfg.Kind, File: c.file, Ends: c.ends, Err: c.err, Renewals: c.read}
}

func (c *Credential) reread() {
	data, err := os.ReadFile(c.file)
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

func (c *Credential) make(data []byte) (inner azcore.TokenCredential, ends time.Time, err error) {
	if c.cfg.Kind == WorkloadIdentity {
		// The SDK reads the file itself, and then not again for ten minutes.
		inner, err = c.cfg.build()
		return inner, time.Time{}, err
	}
	certificate, err := parseCertificate(data)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("certificate_file %s: %w", c.file, err)
	}
	if ends = certificate.ends(); !c.cfg.Clock().Before(ends) {
		return nil, time.Time{}, fmt.Errorf("certificate_file: %w", &hasEnded{c.file, ends})
	}
	inner, err = certificate.credential(c.cfg)
	return inner, ends, err
}

// GetToken signs in by the file as it is now, and as it was before if that cannot be
// used. It refuses to present a certificate that has ended.
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

// hint says what to do about a sign-in that failed, for each kind.
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
	return "the error tells what each way to sign in said: prepare one of them, and name it in azure.credential " +
		"instead of default"
}
