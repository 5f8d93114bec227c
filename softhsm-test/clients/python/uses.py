"""Keys in use. The service refuses GET of these keys, so the client knows nothing of them
and cannot do locally what the service is to do."""

import datetime
import hashlib
import os

from azure.keyvault.keys.crypto import EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm

from vault import NotInThisSDK

DIGEST = hashlib.sha256(b"what was signed").digest()
OTHER = hashlib.sha256(b"what was not").digest()
SECRET = os.urandom(32)


def create_keys(v):
    v.create("use-rsa", v.rsa, size=2048)
    v.create("use-ec", v.ec, curve="P-256")
    v.create("sign-only", v.ec, curve="P-256", key_operations=["sign"])


def encrypt(v):
    v.results["encrypted"] = v.using("use-rsa").encrypt(EncryptionAlgorithm.rsa_oaep_256, SECRET).ciphertext


def decrypt(v):
    assert v.using("use-rsa").decrypt(EncryptionAlgorithm.rsa_oaep_256, v.results["encrypted"]).plaintext == SECRET


def wraps(algorithm, name):
    def wrap(v):
        v.results[algorithm] = v.using(name).wrap_key(algorithm, SECRET).encrypted_key

    def unwrap(v):
        assert v.using(name).unwrap_key(algorithm, v.results[algorithm]).key == SECRET

    return {f"wrapKey {algorithm.value}": wrap, f"unwrapKey {algorithm.value}": unwrap}


def signs(algorithm, name):
    def sign(v):
        v.results[algorithm] = v.using(name).sign(algorithm, DIGEST).signature

    def verify(v):
        assert v.using(name).verify(algorithm, DIGEST, v.results[algorithm]).is_valid is True
        assert v.using(name).verify(algorithm, OTHER, v.results[algorithm]).is_valid is False

    return {f"sign {algorithm.value}": sign, f"verify {algorithm.value}": verify}


def lacks(v):
    """For what this version of the SDK has no name for, and refuses to send."""
    raise NotInThisSDK


def encrypt_gcm(v):
    v.results["gcm"] = v.using("use-oct").encrypt(
        EncryptionAlgorithm.a256_gcm, SECRET, additional_authenticated_data=b"aad"
    )


def decrypt_gcm(v):
    made = v.results["gcm"]
    opened = v.using("use-oct").decrypt(
        EncryptionAlgorithm.a256_gcm, made.ciphertext, iv=made.iv, authentication_tag=made.tag,
        additional_authenticated_data=b"aad",
    )
    assert opened.plaintext == SECRET


def change(v, **changes):
    p = v.made["use-rsa"].properties
    v.keys.update_key_properties(p.name, p.version, **changes)


def later(**period):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(**period)


def wrap(v):
    v.using("use-rsa").wrap_key(KeyWrapAlgorithm.rsa_oaep_256, SECRET)


def unwrap(v):
    wrapped = v.results[KeyWrapAlgorithm.rsa_oaep_256]
    assert v.using("use-rsa").unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == SECRET


def wrap_expired(v):
    change(v, expires_on=later(minutes=-1))
    wrap(v)


def wrap_early(v):
    change(v, not_before=later(hours=1), expires_on=later(hours=2))
    wrap(v)


def unwrap_disabled(v):
    change(v, enabled=False)
    unwrap(v)


def verify_sign_only(v):
    signature = v.using("sign-only").sign(SignatureAlgorithm.es256, DIGEST).signature
    v.using("sign-only").verify(SignatureAlgorithm.es256, DIGEST, signature)


def decrypt_other(v):
    v.create("use-other", v.rsa, size=2048)
    v.using("use-other").decrypt(EncryptionAlgorithm.rsa_oaep_256, v.results["encrypted"])


USES = {
    "create the keys to use": create_keys,
    "create the symmetric key to use": lambda v: v.create("use-oct", "oct-HSM", size=256),
    "encrypt RSA-OAEP-256": encrypt,
    "decrypt RSA-OAEP-256": decrypt,
    **wraps(KeyWrapAlgorithm.rsa_oaep_256, "use-rsa"),
    **wraps(KeyWrapAlgorithm.rsa_oaep, "use-rsa"),
    **signs(SignatureAlgorithm.rs256, "use-rsa"),
    **signs(SignatureAlgorithm.ps256, "use-rsa"),
    **signs(SignatureAlgorithm.es256, "use-ec"),
    **wraps(KeyWrapAlgorithm.aes_256, "use-oct"),
    "wrapKey CKM_AES_KEY_WRAP_PAD": lacks,
    "unwrapKey CKM_AES_KEY_WRAP_PAD": lacks,
    "sign HS256": lacks,
    "verify HS256": lacks,
    "encrypt A256GCM": encrypt_gcm,
    "decrypt A256GCM": decrypt_gcm,
    "wrap with an expired key": wrap_expired,
    "unwrap with an expired key": unwrap,
    "wrap with a key not yet valid": wrap_early,
    "unwrap with a key not yet valid": unwrap,
    "unwrap with a disabled key": unwrap_disabled,
    "verify with a key that may only sign": verify_sign_only,
    "sign with an algorithm of another kind of key": lambda v: v.using("use-ec").sign(SignatureAlgorithm.rs256, DIGEST),
    "decrypt what the key did not encrypt": decrypt_other,
}
