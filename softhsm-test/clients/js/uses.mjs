// Keys in use. The service refuses GET of these keys, so the client knows nothing of
// them and cannot do locally what the service is to do.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { same } from "./vault.mjs";

const digest = createHash("sha256").update("what was signed").digest();
const other = createHash("sha256").update("what was not").digest();
const secret = randomBytes(32);

const round = (make, undo, algorithm, name) => ({
  [`${make} ${algorithm}`]: async (v) => {
    v[make + algorithm] = (await v.using(name)[make](algorithm, secret)).result;
  },
  [`${undo} ${algorithm}`]: async (v) => {
    same((await v.using(name)[undo](algorithm, v[make + algorithm])).result, secret, undo);
  },
});

const signing = (algorithm, name) => ({
  [`sign ${algorithm}`]: async (v) => {
    v[algorithm] = (await v.using(name).sign(algorithm, digest)).result;
  },
  [`verify ${algorithm}`]: async (v) => {
    assert.equal((await v.using(name).verify(algorithm, digest, v[algorithm])).result, true);
    assert.equal((await v.using(name).verify(algorithm, other, v[algorithm])).result, false);
  },
});

export const uses = {
  "create the keys to use": async (v) => {
    await v.create("use-rsa", v.rsa, { keySize: 2048 });
    await v.create("use-ec", v.ec, { curve: "P-256" });
    await v.create("sign-only", v.ec, { curve: "P-256", keyOps: ["sign"] });
  },
  "create the symmetric key to use": async (v) => {
    await v.create("use-oct", "oct-HSM", { keySize: 256 });
  },
  ...round("encrypt", "decrypt", "RSA-OAEP-256", "use-rsa"),
  ...round("wrapKey", "unwrapKey", "RSA-OAEP-256", "use-rsa"),
  ...round("wrapKey", "unwrapKey", "RSA-OAEP", "use-rsa"),
  ...signing("RS256", "use-rsa"),
  ...signing("PS256", "use-rsa"),
  ...signing("ES256", "use-ec"),
  ...round("wrapKey", "unwrapKey", "A256KW", "use-oct"),
  ...round("wrapKey", "unwrapKey", "CKM_AES_KEY_WRAP_PAD", "use-oct"),
  ...signing("HS256", "use-oct"),
  "encrypt A256GCM": async (v) => {
    const parameters = { algorithm: "A256GCM", plaintext: secret, additionalAuthenticatedData: Buffer.from("aad") };
    v.gcm = await v.using("use-oct").encrypt(parameters);
  },
  "decrypt A256GCM": async (v) => {
    const { result, iv, authenticationTag } = v.gcm;
    const additionalAuthenticatedData = Buffer.from("aad");
    const parameters = { algorithm: "A256GCM", ciphertext: result, iv, authenticationTag, additionalAuthenticatedData };
    same((await v.using("use-oct").decrypt(parameters)).result, secret, "the plaintext");
  },
  "wrap with an expired key": async (v) => {
    await dated(v, { expiresOn: new Date(Date.now() - 60e3) });
    await v.using("use-rsa").wrapKey("RSA-OAEP-256", secret);
  },
  "unwrap with an expired key": unwrap,
  "wrap with a key not yet valid": async (v) => {
    await dated(v, { notBefore: new Date(Date.now() + 3600e3), expiresOn: new Date(Date.now() + 7200e3) });
    await v.using("use-rsa").wrapKey("RSA-OAEP-256", secret);
  },
  "unwrap with a key not yet valid": unwrap,
  "unwrap with a disabled key": async (v) => {
    await dated(v, { enabled: false });
    await unwrap(v);
  },
  "verify with a key that may only sign": async (v) => {
    const { result } = await v.using("sign-only").sign("ES256", digest);
    await v.using("sign-only").verify("ES256", digest, result);
  },
  "sign with an algorithm of another kind of key": (v) => v.using("use-ec").sign("RS256", digest),
  "decrypt what the key did not encrypt": async (v) => {
    await v.create("use-other", v.rsa, { keySize: 2048 });
    await v.using("use-other").decrypt("RSA-OAEP-256", v["encryptRSA-OAEP-256"]);
  },
};

async function dated(v, change) {
  const { name, version } = v.made["use-rsa"].properties;
  await v.keys.updateKeyProperties(name, version, change);
}

async function unwrap(v) {
  same((await v.using("use-rsa").unwrapKey("RSA-OAEP-256", v["wrapKeyRSA-OAEP-256"])).result, secret, "unwrapKey");
}
