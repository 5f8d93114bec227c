// Package proof shows that one version in a vault is the HSM's own material and
// works. Its rule: a proof ends passed, refuted or inconclusive, and refuted is
// only ever a definite wrong modulus, key type or plaintext.
package proof
