package service

import (
	"time"

	"github.com/keyd-project/keyd/internal/key"
)

const day = 24 * time.Hour

var all = []Service{
	{
		Name: "storage account", Type: "microsoft.storage/storageaccounts", APIVersion: "2024-01-01",
		Children: []string{"encryptionscopes"}, Follows: Always, Within: day, ShowsInUse: true,
		Safe: day, Stated: true,
		Source: "https://learn.microsoft.com/azure/storage/common/customer-managed-keys-overview",
	},
	{
		Name: "encryption scope", Type: "microsoft.storage/storageaccounts/encryptionscopes", APIVersion: "2024-01-01",
		Follows: Always, Within: day, ShowsInUse: true, Safe: day, Stated: true,
		Source: "https://learn.microsoft.com/azure/storage/blobs/encryption-scope-overview",
	},
	{
		Name: "Cosmos DB account", Type: "microsoft.documentdb/databaseaccounts", APIVersion: "2025-10-15",
		Follows: Always, Unpinned: true, Within: time.Hour, ShowsInUse: true, Safe: day, Stated: true, NeedsLog: true,
		Backups: true,
		Source:  "https://learn.microsoft.com/azure/cosmos-db/how-to-setup-customer-managed-keys",
	},
	{
		Name: "AI services account", Type: "microsoft.cognitiveservices/accounts", APIVersion: "2024-10-01",
		Specs: []key.Spec{key.RSA2048}, KeyVault: true, OneVault: true, Follows: Never, ShowsInUse: true,
		Source: "https://learn.microsoft.com/azure/ai-services/encryption/cognitive-services-encryption-keys-portal",
	},
	{
		Name: "disk encryption set", Type: "microsoft.compute/diskencryptionsets", APIVersion: "2025-01-02",
		Follows: OptIn, Within: time.Hour, ShowsInUse: true, Stated: true,
		Source: "https://learn.microsoft.com/azure/virtual-machines/disk-encryption",
	},
	{
		Name: "SQL server", Type: "microsoft.sql/servers", APIVersion: "2025-01-01",
		Children: []string{"databases"}, Specs: []key.Spec{key.RSA2048, key.RSA3072}, Follows: OptIn,
		Within: time.Hour, ShowsInUse: true, Stated: true, Backups: true,
		Source: "https://learn.microsoft.com/azure/azure-sql/database/transparent-data-encryption-byok-overview",
	},
	{
		Name: "SQL database", Type: "microsoft.sql/servers/databases", APIVersion: "2025-01-01",
		Specs: []key.Spec{key.RSA2048, key.RSA3072}, Follows: OptIn, Within: time.Hour, ShowsInUse: true,
		Stated: true, Backups: true,
		Source: "https://learn.microsoft.com/azure/azure-sql/database/" +
			"transparent-data-encryption-byok-database-level-overview",
	},
	{
		Name: "SQL managed instance", Type: "microsoft.sql/managedinstances", APIVersion: "2025-01-01",
		Specs: []key.Spec{key.RSA2048, key.RSA3072}, Follows: OptIn, Within: time.Hour, ShowsInUse: true,
		Stated: true, Backups: true,
		Source: "https://learn.microsoft.com/azure/azure-sql/database/transparent-data-encryption-byok-overview",
	},
	{
		Name: "container registry", Type: "microsoft.containerregistry/registries", APIVersion: "2023-07-01",
		Follows: Always, Within: time.Hour, ShowsInUse: true,
		Source: "https://learn.microsoft.com/azure/container-registry/tutorial-customer-managed-keys",
	},
	{
		Name: "Event Hubs namespace", Type: "microsoft.eventhub/namespaces", APIVersion: "2024-01-01",
		Follows: Always, Within: 5 * time.Minute,
		Source: "https://learn.microsoft.com/azure/event-hubs/configure-customer-managed-key",
	},
	{
		Name: "PostgreSQL flexible server", Type: "microsoft.dbforpostgresql/flexibleservers",
		APIVersion: "2024-08-01", Follows: Always, Within: 30 * time.Minute, Safe: 2 * time.Hour, Stated: true,
		Backups: true,
		Source:  "https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-data-encryption",
	},
	{
		Name: "MySQL flexible server", Type: "microsoft.dbformysql/flexibleservers", APIVersion: "2023-12-30",
		NoExpiry: true, Follows: Never, ShowsInUse: true, Stated: true, Backups: true,
		Source: "https://learn.microsoft.com/azure/mysql/flexible-server/concepts-customer-managed-key",
	},
}

// The versions of the forms in which Azure shows what belongs to no service.
const (
	SubscriptionsAPI = "2022-12-01"
	PermissionsAPI   = "2022-04-01"
	ResourceGraphAPI = "2022-10-01"
)
