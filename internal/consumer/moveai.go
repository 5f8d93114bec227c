package consumer

// changeAI keeps the identity that the account uses for the key.
func changeAI(have settings, from, to keyRef) (settings, error) {
	e := have.at("properties", "encryption")
	k := namedApart(e.at("keyVaultProperties"), from, to, "keyVaultUri", "keyName").with("keyVersion", to.version)
	return properties(settings{"encryption": e.with("keyVaultProperties", k)}), nil
}

// namedApart names another key in an object with separate fields for the vault and the name.
func namedApart(k settings, from, to keyRef, vaultField, nameField string) settings {
	if from.sameKey(to) {
		return k
	}
	return k.with(vaultField, to.vault).with(nameField, to.name)
}
