package consumer

// changeAI keeps the identity that the account uses for the key.
func changeAI(have settings, _, to keyRef) (settings, error) {
	e := have.at("properties", "encryption")
	k := e.at("keyVaultProperties").with("keyVersion", to.version)
	return properties(settings{"encryption": e.with("keyVaultProperties", k)}), nil
}
