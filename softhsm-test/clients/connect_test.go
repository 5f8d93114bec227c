//go:build clients

package clients

import (
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

func connect(vault, clientID string, options azcore.ClientOptions) (azcore.TokenCredential, *azkeys.Client, error) {
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ID: azidentity.ClientID(clientID),
	})
	if err != nil {
		return nil, nil, err
	}
	options.APIVersion = "7.6" // a Managed HSM's nextLink has none, and the pager adds none by itself
	keys, err := azkeys.NewClient(vault, credential, &azkeys.ClientOptions{ClientOptions: options})
	return credential, keys, err
}
