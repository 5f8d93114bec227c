package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/keyd-project/keyd/internal/key"
)

// The kinds of credential.
const (
	ManagedIdentity   = "managed-identity"
	WorkloadIdentity  = "workload-identity"
	ClientCertificate = "client-certificate"
	DefaultCredential = "default" // azidentity's chain, for trying things out
)

// CredentialConfig says who keyd is to Azure.
type CredentialConfig struct {
	Kind string
	// ClientID selects a user-assigned managed identity, or is the
	// application's id. Workload identity defaults to AZURE_CLIENT_ID.
	ClientID string
	// TenantID is needed by client-certificate; workload identity defaults to
	// AZURE_TENANT_ID.
	TenantID string
	// CertificateFile holds certificate and private key, PEM or PKCS#12
	// without a password.
	CertificateFile string
	// Cloud is "public", "china" or "usgovernment". "": AZURE_AUTHORITY_HOST
	// decides, and without it, public.
	Cloud string
	// AuthorityHost replaces the cloud's sign-in URL, for private clouds. Entra
	// is then not asked whether it is genuine.
	AuthorityHost string
}

// NewCredential makes the credential; nothing is sent yet. transport should
// follow no redirects (see HTTPClient).
func NewCredential(cfg CredentialConfig, transport policy.Transporter) (azcore.TokenCredential, error) {
	authority, err := cfg.authority()
	if err != nil {
		return nil, err
	}
	options := azcore.ClientOptions{
		Cloud:     authority,
		Transport: transport,
		Telemetry: policy.TelemetryOptions{ApplicationID: "keyd"},
	}
	cred, err := cfg.build(options)
	if err != nil {
		return nil, fmt.Errorf("azure.credential %s: %w", cfg.Kind, err)
	}
	return cred, nil
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

func (cfg CredentialConfig) build(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	ownAuthority := cfg.AuthorityHost != ""
	switch cfg.Kind {
	case ManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if cfg.ClientID != "" {
			o.ID = azidentity.ClientID(cfg.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(o)
	case WorkloadIdentity:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options, ClientID: cfg.ClientID, TenantID: cfg.TenantID,
			DisableInstanceDiscovery: ownAuthority,
		})
	case ClientCertificate:
		return cfg.fromCertificate(&azidentity.ClientCertificateCredentialOptions{
			ClientOptions: options, DisableInstanceDiscovery: ownAuthority,
		})
	case DefaultCredential:
		if cfg.ClientID != "" {
			return nil, errors.New("client_id has no effect here: set AZURE_CLIENT_ID instead")
		}
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: options, TenantID: cfg.TenantID, DisableInstanceDiscovery: ownAuthority,
		})
	default:
		return nil, fmt.Errorf("unknown kind: write %s, %s, %s or %s",
			ManagedIdentity, WorkloadIdentity, ClientCertificate, DefaultCredential)
	}
}

func (cfg CredentialConfig) fromCertificate(o *azidentity.ClientCertificateCredentialOptions) (azcore.TokenCredential, error) {
	if cfg.TenantID == "" || cfg.ClientID == "" || cfg.CertificateFile == "" {
		return nil, errors.New("tenant_id, client_id and certificate_file are all needed")
	}
	data, err := os.ReadFile(cfg.CertificateFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate_file: %w", err)
	}
	certs, private, err := azidentity.ParseCertificates(data, nil)
	if err != nil {
		return nil, fmt.Errorf("certificate_file %s: %w; it must hold the certificate and its unencrypted private key", cfg.CertificateFile, err)
	}
	return azidentity.NewClientCertificateCredential(cfg.TenantID, cfg.ClientID, certs, private, o)
}

// taggedCredential marks errors of the sign-in, so that they are not taken for
// errors of the vault.
type taggedCredential struct{ next azcore.TokenCredential }

func (c taggedCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.next.GetToken(ctx, o)
	if err != nil {
		return azcore.AccessToken{}, &tokenError{err}
	}
	return token, nil
}

// tokenError is a failed sign-in; the request was not sent.
type tokenError struct{ err error }

// Error leaves out the rulers that the SDK draws, so that what Entra said (AADSTS…) is
// not what is cut off.
func (e *tokenError) Error() string {
	return "no token: " + oneLine(strings.ReplaceAll(e.err.Error(), strings.Repeat("-", 80), ""))
}

func (e *tokenError) Unwrap() error { return e.err }

// NonRetriable keeps the SDK from trying again what the credential already has.
func (e *tokenError) NonRetriable() {}

func (e *tokenError) class() key.Class {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(e.err, &failed) && failed.RawResponse != nil && failed.RawResponse.StatusCode < 500 &&
		failed.RawResponse.StatusCode != http.StatusTooManyRequests {
		return key.Refused
	}
	return key.Retry
}

func (e *tokenError) hint() string {
	return "check azure.credential, client_id and tenant_id, that the identity is assigned to this machine, and that NO_PROXY holds 169.254.169.254 where a proxy is set"
}
