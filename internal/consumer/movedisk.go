package consumer

import "strings"

// changeDisk names the vault's resource only if it was named, and is in the set's own subscription: across
// subscriptions Azure takes none.
func changeDisk(have settings, _, to keyRef) (settings, error) {
	p := have.at("properties")
	active := settings{"keyUrl": to.String()}
	source := p.at("activeKey", "sourceVault")
	if id := source.text("id"); id != "" && sameSubscription(id, have.text("id")) {
		active["sourceVault"] = source.only("id")
	}
	return properties(p.only("encryptionType", "federatedClientId", "rotationToLatestKeyVersionEnabled").
		with("activeKey", active)), nil
}

func sameSubscription(a, b string) bool {
	return strings.EqualFold(subscriptionOf(a), subscriptionOf(b))
}
