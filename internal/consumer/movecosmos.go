package consumer

// changeCosmos keeps the identity: it is a field of its own.
func changeCosmos(_ settings, _, to keyRef) (settings, error) {
	return properties(settings{"keyVaultKeyUri": to.String()}), nil
}
