// Package consumer knows who encrypts under a key: it asks Azure's Resource Manager what each resource is set to and
// which version it uses, and finds resources that the configuration does not name. Its rule: it never touches a vault's
// keys, and what it could not see it reports as not seen.
package consumer
