//go:build clients

package clients

import (
	"context"
	"errors"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// goSignIn is every way in: each credential of azidentity that the emulator has an
// endpoint for gets a token that the vault takes.
func goSignIn() map[string]doing {
	return map[string]doing{
		"sign in by a virtual machine's managed identity": entering(func(setup) (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(nil)
		}),
		"sign in by App Service's managed identity": func(ctx context.Context, v *goVault) error {
			return within(v.setup.AppService, func() error {
				// A client id of its own: tokens are kept for the whole process.
				cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
					ID: azidentity.ClientID("app-service-" + v.Name),
				})
				return enter(ctx, v, cred, err)
			})
		},
		"sign in by workload identity":        federated(func(s setup) string { return s.FederatedToken }),
		"sign in with a token that is no JWT": federated(func(s setup) string { return s.BrokenToken }),
		"sign in by a client certificate": entering(func(s setup) (azcore.TokenCredential, error) {
			text, err := os.ReadFile(s.Certificate)
			if err != nil {
				return nil, err
			}
			certificates, key, err := azidentity.ParseCertificates(text, nil)
			if err != nil {
				return nil, err
			}
			return azidentity.NewClientCertificateCredential(s.TenantID, s.ClientID, certificates, key, nil)
		}),
		"sign in by the default chain": entering(func(setup) (azcore.TokenCredential, error) {
			return azidentity.NewDefaultAzureCredential(nil)
		}),
	}
}

func entering(credential func(setup) (azcore.TokenCredential, error)) doing {
	return func(ctx context.Context, v *goVault) error {
		cred, err := credential(v.setup)
		return enter(ctx, v, cred, err)
	}
}

func enter(ctx context.Context, v *goVault, cred azcore.TokenCredential, err error) error {
	if err != nil {
		return err
	}
	_, err = v.with(cred, "7.6").NewListDeletedKeyPropertiesPager(nil).NextPage(ctx)
	return err
}

func federated(file func(setup) string) doing {
	return entering(func(s setup) (azcore.TokenCredential, error) {
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			TenantID: s.TenantID, ClientID: s.ClientID, TokenFilePath: file(s),
		})
	})
}

// within sets environment variables while f runs.
func within(environ map[string]string, f func() error) (err error) {
	for name, value := range environ {
		err = errors.Join(err, os.Setenv(name, value))
		defer func() { err = errors.Join(err, os.Unsetenv(name)) }()
	}
	if err != nil {
		return err
	}
	return f()
}
