//go:build clients

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// goSignIn are the ways to sign in: each azidentity credential with an endpoint in the
// emulator gets a token that the vault accepts.
func goSignIn() map[string]doing {
	return map[string]doing{
		"sign in by a virtual machine's managed identity": entering(func(setup) (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(nil)
		}),
		"sign in by App Service's managed identity": func(ctx context.Context, v *goVault) error {
			return within(v.setup.AppService, func() error {
				// Its own client id: the SDK keeps tokens for the whole process.
				cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
					ID: azidentity.ClientID("app-service-" + v.Name),
				})
				return enter(ctx, v, cred, err)
			})
		},
		"sign in by workload identity":        federated(func(s setup) string { return s.FederatedToken }),
		"sign in with a token that is no JWT": federated(func(s setup) string { return s.BrokenToken }),
		"sign in by a client certificate": entering(func(s setup) (azcore.TokenCredential, error) {
			return certified(s, s.Application)
		}),
		"sign in by a certificate that is not registered": entering(func(s setup) (azcore.TokenCredential, error) {
			return certified(s, s.OtherApplication)
		}),
		"call again after the tokens were revoked": revoked,
		"sign in by the default chain": entering(func(setup) (azcore.TokenCredential, error) {
			return azidentity.NewDefaultAzureCredential(nil)
		}),
	}
}

func certified(s setup, clientID string) (azcore.TokenCredential, error) {
	text, err := os.ReadFile(s.Certificate)
	if err != nil {
		return nil, err
	}
	certificates, key, err := azidentity.ParseCertificates(text, nil)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientCertificateCredential(s.TenantID, clientID, certificates, key, nil)
}

func revoked(ctx context.Context, v *goVault) error {
	clientID := "revoked-" + v.Name
	cred, err := certified(v.setup, clientID)
	if err != nil {
		return err
	}
	keys := v.with(cred, "7.6")
	if _, err := keys.NewListDeletedKeyPropertiesPager(nil).NextPage(ctx); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"do": "RevokeTokens", "what": clientID})
	if err != nil {
		return err
	}
	res, err := http.Post(v.setup.Admin+"/meddle", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := errors.Join(res.Body.Close(), want(res.StatusCode == http.StatusOK, "meddle: %s",
		res.Status)); err != nil {
		return err
	}
	// With a token that was requested with the challenge's claims.
	_, err = keys.NewListDeletedKeyPropertiesPager(nil).NextPage(ctx)
	return err
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
