// Package attest verifies, offline, what a Managed HSM's hardware says about one of its keys. Its rule: it is pure, and
// it trusts nothing that the statement does not sign or a root does not certify.
//
// An attestation is a statement that a partition of an HSM signs, and the certificates of that partition: one chain
// from the vendor of the HSM, one from the root that claimed the partition (the partition root). It names a key as
// /keys/NAME/VERSION, and not its pool: a Managed HSM of somebody else says the same about a key of the same name. So
// an attestation is worth something only beside the key's fingerprint, or where the partition root is known.
package attest
