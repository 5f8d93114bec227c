import { ManagedIdentityCredential } from "@azure/identity";
import { KeyClient } from "@azure/keyvault-keys";

export function connect(vault, clientId, options) {
  const credential = new ManagedIdentityCredential({ clientId });
  return { credential, keys: new KeyClient(vault, credential, options) };
}
