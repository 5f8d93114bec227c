package emulator_test

// consumerFacts are about the services that encrypt under a key, and about what Azure tells of them.
func consumerFacts() []fact {
	return []fact{
		{
			"Services follow a key without a version at their own pace: Storage daily, Cosmos DB, SQL and ACR " +
				"hourly, PostgreSQL half-hourly, Event Hubs in 5 minutes; MySQL and AI services never",
			servicesFollowAtTheirOwnPace,
		},
		{
			"Backups of SQL, Cosmos DB and PostgreSQL need the version under which they were taken",
			databasesKeepBackups,
		},
		{
			"A PostgreSQL server restored from a backup needs the old version as long as it lives",
			restoredServersNeedTheOldVersion,
		},
		{"MySQL takes no key with an expiry date", mySQLTakesNoExpiryDate},
		{"AI services take no key of a Managed HSM; Event Hubs, ACR and MySQL do", servicesRefuseKeysFromElsewhere},
		{"Event Hubs: up to three keys, and no version in use is shown", namespacesHaveUpToThreeKeys},
		{"A PATCH without the identity does not keep it", patchesReplaceTheEncryption},
		{"SQL: the server key is put first, and then encryptionProtector/current", sqlServersTakeTwoCalls},
		{"SQL: the servers of geo-secondaries get the key first", secondariesComeFirst},
		{
			"A change answers 200, 201 or 202 with Azure-AsyncOperation or Location to poll",
			changesAreAcceptedAndPolled,
		},
		{"A vault's resource shows its purge protection only where it is on", vaultsAreResources},
		{
			"Roles reach a vault's key from the key, the vault, the group, the subscription and the " +
				"management group, and through groups",
			rolesReachDownFromEveryScope,
		},
		{"Resource Graph pages by $skipToken and has no child resources", graphFindsNoChildren},
		{"Resource Graph leaves out without a word what the caller may not read", graphIsSilentOfTheRest},
		{"The audit log is up to 10 minutes late", auditLogsAreLate},
		{
			"The audit log has failed calls and URIs without a version; its CorrelationId is the client's GUID",
			auditLogsHaveFailedCalls,
		},
	}
}
