package consumer

// changeRegistry keeps the identity that the registry uses for the key.
func changeRegistry(have settings, _, to keyRef) (settings, error) {
	e := have.at("properties", "encryption")
	k := e.at("keyVaultProperties").only("identity").with("keyIdentifier", to.String())
	return properties(settings{"encryption": e.with("keyVaultProperties", k)}), nil
}
