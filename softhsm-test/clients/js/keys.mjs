// Operations that create, import, read, change, delete, rotate and attest keys.
import assert from "node:assert/strict";
import { constants, publicEncrypt, randomBytes } from "node:crypto";
import { KeyClient } from "@azure/keyvault-keys";
import { ecKey, otherRSA, rsaKey, transferBlob } from "./transfer.mjs";
import { all, options, same } from "./vault.mjs";

const wrapping = ["wrapKey", "unwrapKey"];
const versions = 101;

async function transfer(v, name, kty, plaintext, more) {
  const kek = v.made.kek ?? (await madeUp(v));
  const t = transferBlob(kek, plaintext);
  return v.import(name, { kty, t, ...more });
}

// madeUp stands for a key exchange key where there can be none.
async function madeUp(v) {
  const { jwk } = otherRSA();
  return { id: `${v.vault}/keys/kek/00000000000000000000000000000000`, key: jwk };
}

export const keys = {
  "create RSA": async (v) => {
    const k = await v.create("rsa", "RSA", { keySize: 2048, tags: { made: "here" } });
    assert.match(k.keyType, /^RSA(-HSM)?$/); // a Managed HSM makes an HSM key of it
    assert.equal(k.key.n.length, 256);
    assert.equal(k.properties.tags.made, "here");
  },
  "create RSA-HSM": async (v) => {
    const k = await v.create("rsa-hsm", "RSA-HSM", { keySize: 2048 });
    assert.equal(k.keyType, "RSA-HSM");
  },
  "create EC": async (v) => {
    const k = await v.create("ec", "EC", { curve: "P-256" });
    assert.equal(k.key.crv, "P-256");
  },
  "create EC-HSM": async (v) => {
    const k = await v.create("ec-hsm", "EC-HSM", { curve: "P-384" });
    assert.equal(k.key.crv, "P-384");
    assert.equal(k.key.x.length, 48);
  },
  "create oct-HSM": async (v) => {
    const k = await v.create("oct-hsm", "oct-HSM", { keySize: 256 });
    assert.equal(k.keyType, "oct-HSM");
  },
  "create a key exchange key": async (v) => {
    const k = await v.create("kek", "RSA-HSM", { keySize: 2048, keyOps: ["import"] });
    assert.deepEqual(k.keyOperations, ["import"]);
  },
  "import RSA": async (v) => {
    const { jwk } = rsaKey();
    const k = await v.import("plain-rsa", jwk);
    same(k.key.n, jwk.n, "the modulus");
  },
  "import EC as an HSM key": async (v) => {
    const { jwk } = ecKey();
    const k = await v.import("plain-ec", jwk, { hardwareProtected: true });
    assert.equal(k.keyType, "EC-HSM");
    same(k.key.x, jwk.x, "the point");
  },
  "BYOK import RSA-HSM": async (v) => {
    const { publicKey, jwk, pkcs8 } = rsaKey();
    const k = await transfer(v, "byok-rsa", "RSA-HSM", pkcs8, { keyOps: wrapping });
    same(k.key.n, jwk.n, "the modulus");
    assert.deepEqual(k.keyOperations.toSorted?.() ?? [...k.keyOperations].sort(), [...wrapping].sort());
    const secret = randomBytes(32);
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    const wrapped = publicEncrypt({ key: publicKey, padding, oaepHash: "sha256" }, secret);
    const opened = await v.using("byok-rsa").unwrapKey("RSA-OAEP-256", wrapped);
    same(opened.result, secret, "what the imported key unwrapped");
  },
  "BYOK import EC-HSM": async (v) => {
    const { jwk, pkcs8 } = ecKey();
    const k = await transfer(v, "byok-ec", "EC-HSM", pkcs8, { crv: "P-256", keyOps: ["sign", "verify"] });
    same(k.key.x, jwk.x, "the point");
  },
  "BYOK import oct-HSM": async (v) => {
    const k = await transfer(v, "byok-oct", "oct-HSM", randomBytes(32), { keyOps: wrapping });
    assert.equal(k.keyType, "oct-HSM");
  },
  "BYOK import of a blob to another key": async (v) => {
    const kek = { id: v.made.kek?.id ?? (await madeUp(v)).id, key: otherRSA().jwk };
    await v.import("byok-bad", { kty: "RSA-HSM", t: transferBlob(kek, rsaKey().pkcs8), keyOps: wrapping });
  },
  "get": async (v) => {
    const made = await v.create("seen", v.ec, { tags: { a: "b" } });
    const k = await v.keys.getKey("seen");
    assert.equal(k.id, made.id);
    assert.equal(k.properties.enabled, true);
    assert.match(k.properties.recoveryLevel, /Purgeable/);
  },
  "get a version": async (v) => {
    const old = v.made.seen;
    const newer = await v.create("seen", v.ec);
    const k = await v.keys.getKey("seen", { version: old.properties.version });
    assert.equal(k.id, old.id);
    assert.equal((await v.keys.getKey("seen")).id, newer.id);
  },
  "get by each api-version that is served": async (v) => {
    for (const serviceVersion of ["7.3", "7.4", "7.5", "7.6", "2025-07-01"])
      await new KeyClient(v.vault, v.credential, { ...options, serviceVersion }).getKey("seen");
  },
  "list keys": async (v) => {
    const names = (await all(v.keys.listPropertiesOfKeys())).map((p) => p.name);
    for (const name of Object.keys(v.made)) assert.ok(names.includes(name), name);
  },
  "list versions, page by page": async (v) => {
    v.listed = [];
    for (let i = 0; i < versions - 1; i++) v.listed.push((await v.keys.createKey("many", v.ec)).id);
    const pages = await all(v.keys.listPropertiesOfKeyVersions("many").byPage());
    assert.ok(pages.length >= 4, `${pages.length} pages`);
    assert.deepEqual(pages.flat().map((p) => p.id).sort(), v.listed.sort());
  },
  "create a 101st version": async (v) => {
    await v.keys.createKey("many", v.ec);
  },
  "list the versions of an unknown key": async (v) => {
    assert.deepEqual(await all(v.keys.listPropertiesOfKeyVersions("absent")), []);
  },
  "update": async (v) => {
    const { name, version } = v.made.seen.properties;
    const expiresOn = new Date("2037-01-01"); // this SDK cuts times to 32 bits
    await v.keys.updateKeyProperties(name, version, { enabled: false, expiresOn, tags: { c: "d" }, keyOps: ["sign"] });
    const [p] = (await all(v.keys.listPropertiesOfKeyVersions(name))).filter((p) => p.version === version);
    assert.equal(p.enabled, false);
    assert.deepEqual(p.expiresOn, expiresOn);
    assert.deepEqual(p.tags, { c: "d" });
  },
  "delete": async (v) => {
    await v.create("gone", v.ec);
    const poller = await v.keys.beginDeleteKey("gone", { intervalInMs: 200 });
    const deleted = await poller.pollUntilDone();
    assert.equal(deleted.properties.recoveryId, `${v.vault}/deletedkeys/gone`);
  },
  "get a deleted key": async (v) => {
    const k = await v.keys.getDeletedKey("gone");
    assert.ok(k.properties.scheduledPurgeDate > k.properties.deletedOn);
  },
  "list deleted keys": async (v) => {
    const names = (await all(v.keys.listDeletedKeys())).map((k) => k.name);
    assert.ok(names.includes("gone"));
  },
  "recover": async (v) => {
    const poller = await v.keys.beginRecoverDeletedKey("gone", { intervalInMs: 200 });
    const k = await poller.pollUntilDone();
    assert.equal(k.name, "gone");
    assert.equal((await v.keys.getKey("gone")).id, v.made.gone.id);
  },
  "purge": async (v) => {
    const poller = await v.keys.beginDeleteKey("gone", { intervalInMs: 200 });
    await poller.pollUntilDone();
    await v.keys.purgeDeletedKey("gone");
    await v.create("gone", v.ec); // the name is free again
  },
  "purge where purge protection is on": async (v) => {
    const keys = v.at(v.protected);
    await keys.createKey("kept", v.ec);
    const poller = await keys.beginDeleteKey("kept", { intervalInMs: 200 });
    await poller.pollUntilDone();
    await keys.purgeDeletedKey("kept");
  },
  "set a rotation policy": async (v) => {
    await v.create("turned", v.ec);
    const policy = await v.keys.updateKeyRotationPolicy("turned", {
      lifetimeActions: [{ action: "Rotate", timeBeforeExpiry: "P30D" }],
      expiresIn: "P90D",
    });
    assert.equal(policy.expiresIn, "P90D");
  },
  "get a rotation policy": async (v) => {
    const policy = await v.keys.getKeyRotationPolicy("turned");
    assert.equal(policy.expiresIn, "P90D");
    assert.equal(policy.lifetimeActions[0].action.toLowerCase(), "rotate");
    assert.equal(policy.lifetimeActions[0].timeBeforeExpiry, "P30D");
  },
  "rotate": async (v) => {
    const k = await v.keys.rotateKey("turned");
    assert.notEqual(k.id, v.made.turned.id);
    const days = (k.properties.expiresOn - k.properties.createdOn) / 86400e3;
    assert.ok(Math.abs(days - 90) < 1, `${days} days`);
  },
  "rotate an imported key": async (v) => {
    await v.import("brought", { ...ecKey().jwk, kty: v.ec });
    await v.keys.rotateKey("brought");
  },
  "attestation": async (v) => {
    await v.create("attested", v.ec);
    const k = await v.keys.getKeyAttestation("attested", { version: v.made.attested.properties.version });
    const a = k.properties.attestation;
    assert.equal(a.version, "MRVL-1");
    assert.match(Buffer.from(a.certificatePemFile).toString(), /^-----BEGIN CERTIFICATE/);
    assert.ok(a.privateKeyAttestation.length > 256 && a.publicKeyAttestation.length > 256);
  },
};
