package vault

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// The kinds of credential.
const (
	ManagedIdentity   = "managed-identity"
	WorkloadIdentity  = "workload-identity"
	ClientCertificate = "client-certificate"
	DefaultCredential = "default" // azidentity's chain, for trying things out
)

// CredentialConfig says how keyd signs in to Azure.
type CredentialConfig struct {
	Kind string
	// ClientID selects a user-assigned managed identity, or is the
	// application's id. Workload identity defaults to AZURE_CLIENT_ID.
	ClientID string
	// TenantID is needed by client-certificate; workload identity defaults to
	// AZURE_TENANT_ID.
	TenantID string
	// CertificateFile holds certificate and private key (RSA), as PEM or as
	// PKCS#12 in its old form without a password.
	CertificateFile string
	// Cloud is "public", "china" or "usgovernment". "": AZURE_AUTHORITY_HOST
	// decides, and without it, public.
	Cloud string
	// AuthorityHost replaces the cloud's sign-in URL, for private clouds. The SDK then does not ask Entra whether it
	// is genuine.
	AuthorityHost string
	// Clock is the time by which a certificate has ended or not. nil: time.Now.
	Clock func() time.Time
	// Metrics learns at once when sign-ins begin to fail or work again. nil: none.
	Metrics *Metrics

	options azcore.ClientOptions
}

// NewCredential makes the credential; it sends nothing yet. transport must not follow redirects (see HTTPClient). It
// refuses a certificate file that cannot be used, or whose certificate has ended.
func NewCredential(cfg CredentialConfig, transport policy.Transporter) (*Credential, error) {
	authority, err := cfg.authority()
	if err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.options = azcore.ClientOptions{
		Cloud:     authority,
		Transport: signInTransport{transport},
		Telemetry: policy.TelemetryOptions{ApplicationID: "keyd"},
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	c := &Credential{cfg: cfg, file: cfg.file(), lacking: audiences{}}
	if err := c.begin(); err != nil {
		return nil, fmt.Errorf("azure.credential %s: %w", cfg.Kind, err)
	}
	return c, nil
}

func (cfg CredentialConfig) authority() (cloud.Configuration, error) {
	var c cloud.Configuration
	switch cfg.Cloud {
	case "":
	case "public":
		c = cloud.AzurePublic
	case "china":
		c = cloud.AzureChina
	case "usgovernment":
		c = cloud.AzureGovernment
	default:
		return c, fmt.Errorf("azure.cloud %q is unknown: write public, china or usgovernment", cfg.Cloud)
	}
	if cfg.AuthorityHost != "" {
		c = cloud.Configuration{ActiveDirectoryAuthorityHost: cfg.AuthorityHost}
	}
	return c, nil
}

// file is the file of the credential, "" for kinds that need none.
func (cfg CredentialConfig) file() string {
	switch cfg.Kind {
	case ClientCertificate:
		return cfg.CertificateFile
	case WorkloadIdentity:
		return os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
	}
	return ""
}

// build makes the SDK's credential of every kind but ClientCertificate.
func (cfg CredentialConfig) build() (azcore.TokenCredential, error) {
	ownAuthority := cfg.AuthorityHost != ""
	switch cfg.Kind {
	case ManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: cfg.options}
		if cfg.ClientID != "" {
			o.ID = azidentity.ClientID(cfg.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	case WorkloadIdentity:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: cfg.options, ClientID: cfg.ClientID, TenantID: cfg.TenantID,
			DisableInstanceDiscovery: ownAuthority,
		})
	case DefaultCredential:
		if cfg.ClientID != "" {
			return nil, errors.New("client_id has no effect here: set AZURE_CLIENT_ID instead")
		}
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: cfg.options, TenantID: cfg.TenantID, DisableInstanceDiscovery: ownAuthority,
		})
	default:
		return nil, fmt.Errorf("unknown kind: write %s, %s, %s or %s",
			ManagedIdentity, WorkloadIdentity, ClientCertificate, DefaultCredential)
	}
}
