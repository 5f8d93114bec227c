import assert from "node:assert/strict";
import { CryptographyClient } from "@azure/keyvault-keys";
import { connect } from "./connect.mjs";

/** options make the SDK try once more, and soon. */
export const options = { retryOptions: { maxRetries: 1, retryDelayInMs: 10 } };

/** Vault is one profile's vault, what was made in it so far, and its neighbours. */
export class Vault {
  constructor(profile, setup) {
    Object.assign(this, profile); // name, vault, roles, policies, firewall, protected, foreign, rsa, ec
    this.setup = setup;
    Object.assign(this, connect(this.vault, setup.clientId, options));
    this.made = {};
  }

  /** at gives a client of a neighbouring vault. */
  at(url) {
    return connect(url, this.setup.clientId, options).keys;
  }

  /** create makes a key and keeps it under its name. */
  async create(name, kty, more) {
    return (this.made[name] = await this.keys.createKey(name, kty, more));
  }

  /** import brings one in and keeps it likewise. */
  async import(name, jwk, more) {
    return (this.made[name] = await this.keys.importKey(name, jwk, more));
  }

  /** using gives a client for one version of a key. */
  using(name) {
    const id = this.made[name]?.id ?? `${this.vault}/keys/${name}`;
    return new CryptographyClient(id, this.credential, options);
  }
}

export function same(got, want, what) {
  assert.ok(Buffer.from(got).equals(Buffer.from(want)), `${what} differs`);
}

export async function all(list) {
  const items = [];
  for await (const item of list) items.push(item);
  return items;
}
