package consumer

func flexibleServer(id string, r resource[flexibleProperties]) ([]sight, error) {
	return flexibleSights(id, r, true)
}

// changeFlexible keeps the type, the identities, and the key that is not moved: that of the server or that of its
// geo-redundant backups.
func changeFlexible(have settings, from, to keyRef) (settings, error) {
	e := have.at("properties", "dataEncryption").without("primaryEncryptionKeyStatus", "geoBackupEncryptionKeyStatus")
	for _, name := range []string{"primaryKeyURI", "geoBackupKeyURI"} {
		uri := e.text(name)
		if uri == "" {
			continue
		}
		ref, err := parseKeyRef(uri)
		if err != nil {
			return nil, err
		}
		if ref.sameKey(from) && ref.version == from.version {
			e = e.with(name, to.String())
		}
	}
	body := properties(settings{"dataEncryption": e})
	if i := assigned(have); i != nil {
		body["identity"] = i
	}
	return body, nil
}

// assigned names a resource's identities as a change does: their ids alone. nil: it was given none.
func assigned(have settings) settings {
	i := have.at("identity")
	users := settings{}
	for id := range i.at("userAssignedIdentities") {
		users[id] = settings{}
	}
	if len(users) == 0 {
		return nil
	}
	return i.only("type").with("userAssignedIdentities", users)
}
