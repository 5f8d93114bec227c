package consumer

// changeStorage keeps the services and the identity that belong to the encryption.
func changeStorage(have settings, from, to keyRef) (settings, error) {
	e := have.at("properties", "encryption")
	k := namedApart(e.at("keyvaultproperties"), from, to, "keyvaulturi", "keyname").with("keyversion", to.version).
		without("currentVersionedKeyIdentifier", "lastKeyRotationTimestamp", "currentVersionedKeyExpirationTimestamp")
	return properties(settings{"encryption": e.with("keyvaultproperties", k)}), nil
}

// ownScope is a scope under a customer's key.
func ownScope(id string, r resource[scopeProperties]) (sight, error) {
	s, _, err := scopeSight(id, *r.Properties)
	return s, err
}

// changeScope keeps whether the scope is turned on.
func changeScope(have settings, _, to keyRef) (settings, error) {
	p := have.at("properties")
	return properties(p.only("source", "state").
		with("keyVaultProperties", settings{"keyUri": to.String()})), nil
}
