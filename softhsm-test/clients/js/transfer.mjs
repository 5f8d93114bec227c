// What BYOK needs on the customer's side, by node's crypto: CKM_RSA_AES_KEY_WRAP and
// the transfer blob around it.
import { constants, createCipheriv, generateKeyPairSync, publicEncrypt, randomBytes } from "node:crypto";

/** transferBlob wraps plaintext to the key exchange key kek (a KeyVaultKey). */
export function transferBlob(kek, plaintext) {
  const kid = kek.id;
  const aes = randomBytes(32);
  const jwk = { kty: "RSA", n: base64url(kek.key.n), e: base64url(kek.key.e) };
  const wrappedAES = publicEncrypt(
    { key: jwk, format: "jwk", padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" },
    aes,
  );
  const kwp = createCipheriv("id-aes256-wrap-pad", aes, Buffer.from("a65959a6", "hex"));
  const ciphertext = Buffer.concat([wrappedAES, kwp.update(plaintext), kwp.final()]);
  return Buffer.from(
    JSON.stringify({
      schema_version: "1.0.0",
      header: { kid, alg: "dir", enc: "CKM_RSA_AES_KEY_WRAP" },
      ciphertext: base64url(ciphertext),
      generator: "clients; node " + process.versions.node,
    }),
  );
}

/** rsaKey, otherRSA and ecKey give a key pair: its PKCS#8 in DER, its JWK, and the public
 * half. Each is made once: an RSA pair takes its time. */
export const rsaKey = once(() => keyPair("rsa", { modulusLength: 2048 }));
export const otherRSA = once(() => keyPair("rsa", { modulusLength: 2048 }));
export const ecKey = once(() => keyPair("ec", { namedCurve: "P-256" }));

function once(make) {
  let made;
  return () => (made ??= make());
}

function keyPair(type, options) {
  const { publicKey, privateKey } = generateKeyPairSync(type, options);
  const jwk = {};
  for (const [name, value] of Object.entries(privateKey.export({ format: "jwk" }))) {
    jwk[name] = name === "kty" || name === "crv" ? value : Buffer.from(value, "base64url");
  }
  return { publicKey, jwk, pkcs8: privateKey.export({ format: "der", type: "pkcs8" }) };
}

const base64url = (bytes) => Buffer.from(bytes).toString("base64url");
