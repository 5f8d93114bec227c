// Package byok encodes and parses the transfer blob: the JSON document in
// which wrapped key material travels to Azure Key Vault or Managed HSM. Its rule: pure
// functions of public bytes; it never sees a plaintext key.
//
// The form is Microsoft's "Bring your own key specification"
// (learn.microsoft.com/azure/key-vault/keys/byok-specification), section
// "Key Transfer Blob".
package byok
