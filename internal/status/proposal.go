package status

import (
	"cmp"
	"strings"

	"github.com/keyd-project/keyd/internal/key"
)

// Proposal is an act that waits for a second operator.
type Proposal struct {
	key.Proposal
	VaultName string `json:"vault_name,omitempty"` // nickname, of one that is about a vault
}

// About names the key, the vault or keyd itself, for people.
func (p Proposal) About() string { return cmp.Or(p.Key, p.VaultName, p.Vault, p.Subject()) }

// Words is the act in words, such as "resume sa-cmk-key".
func (p Proposal) Words() string {
	words := []string{string(p.Kind), p.About()}
	if v := p.Arguments["version"]; v != "" {
		words = append(words, v)
	}
	return strings.Join(words, " ")
}
