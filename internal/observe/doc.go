// Package observe looks at the HSM and the vaults for one key, and keeps what it saw. Its rule: it decides nothing
// and changes nothing. What it keeps is a cache: losing it costs one look.
package observe
