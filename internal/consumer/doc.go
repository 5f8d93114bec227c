// Package consumer knows who encrypts under a key: it asks Azure's Resource Manager what each resource is set to and
// which version it uses, finds resources that the configuration does not name, and sets one to another version. Its
// rule: it never touches a vault's keys, what it could not see it reports as not seen, and it sends a change once.
package consumer
