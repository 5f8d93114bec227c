package consumer

import "strings"

// changeDisk names the vault's resource only if it was named, is in the set's own subscription, and stays the same:
// across subscriptions Azure takes none, and of another vault keyd does not know the resource.
func changeDisk(have settings, from, to keyRef) (settings, error) {
	p := have.at("properties")
	active := settings{"keyUrl": to.String()}
	source := p.at("activeKey", "sourceVault")
	if id := source.text("id"); id != "" && from.vault == to.vault && sameSubscription(id, have.text("id")) {
		active["sourceVault"] = source.only("id")
	}
	return properties(p.only("encryptionType", "federatedClientId", "rotationToLatestKeyVersionEnabled").
		with("activeKey", active)), nil
}

func sameSubscription(a, b string) bool {
	return strings.EqualFold(subscriptionOf(a), subscriptionOf(b))
}
