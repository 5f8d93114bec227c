// Package health proves again and again, in the vaults, what rotations have put
// there. Its rule: it decides when to prove what and shows the results, and it
// never changes a key, a record or a vault.
package health
