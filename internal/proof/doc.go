// Package proof shows that one version in a vault holds the HSM's material and works. Its rule: a proof ends as
// passed, refuted or inconclusive. It is refuted only by a definitely wrong modulus, key type, plaintext or
// signature.
package proof
