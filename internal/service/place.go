package service

import "slices"

// The services that a vault's bypass lets in, by the providers of their types. Cosmos DB and AI services are not among
// them: https://learn.microsoft.com/azure/key-vault/general/overview-vnet-service-endpoints, "Trusted services".
var trusted = []string{
	"microsoft.storage/storageaccounts", "microsoft.storage/storageaccounts/encryptionscopes",
	"microsoft.compute/diskencryptionsets", "microsoft.sql/servers", "microsoft.sql/servers/databases",
	"microsoft.sql/managedinstances", "microsoft.containerregistry/registries", "microsoft.eventhub/namespaces",
	"microsoft.dbforpostgresql/flexibleservers", "microsoft.dbformysql/flexibleservers",
}

// Trusted reports whether a vault that lets trusted services in lets this one in.
func (s Service) Trusted() bool { return slices.Contains(trusted, s.Type) }

// The services that take keys only from a vault in their own region:
// https://learn.microsoft.com/azure/ai-services/encryption/cognitive-services-encryption-keys-portal and
// https://learn.microsoft.com/azure/virtual-machines/disk-encryption, "Restrictions".
var sameRegion = []string{"microsoft.cognitiveservices/accounts", "microsoft.compute/diskencryptionsets"}

// SameRegion reports whether the service takes keys only from a vault in its own region.
func (s Service) SameRegion() bool { return slices.Contains(sameRegion, s.Type) }

// The versions of the forms in which Azure shows what decides whether a service may use a key.
const (
	VaultsAPI        = "2023-07-01"
	IdentitiesAPI    = "2023-01-31"
	AuthorizationAPI = "2022-04-01" // from this one on it shows conditions
)
