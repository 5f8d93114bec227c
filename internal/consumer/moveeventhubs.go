package consumer

// changeEventHubs keeps the namespace's other keys: who sends fewer than there are takes them away.
func changeEventHubs(have settings, from, to keyRef) (settings, error) {
	e := have.at("properties", "encryption")
	name := e.spelled("keyVaultProperties")
	keys, _ := e[name].([]any)
	next := make([]any, len(keys))
	for i, k := range keys {
		one, ok := k.(map[string]any)
		if !ok {
			return nil, badAnswerf("a key of the namespace is no object")
		}
		s := settings(one)
		ref, err := newKeyRef(s.text("keyVaultUri"), s.text("keyName"), s.text("keyVersion"))
		if err != nil {
			return nil, err
		}
		if ref.sameKey(from) && ref.version == from.version {
			s = namedApart(s, from, to, "keyVaultUri", "keyName").with("keyVersion", to.version)
		}
		next[i] = s
	}
	return properties(settings{"encryption": e.with(name, next)}), nil
}
