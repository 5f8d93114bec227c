"""What BYOK needs on the customer's side: CKM_RSA_AES_KEY_WRAP and the transfer blob
around it."""

import base64
import functools
import json
import os

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa


def transfer_blob(kid, kek, plaintext):
    """Wraps plaintext to the key exchange key kek, an RSA public key."""
    aes = os.urandom(32)
    wrapped_aes = kek.encrypt(aes, oaep(hashes.SHA1()))
    ciphertext = wrapped_aes + keywrap.aes_key_wrap_with_padding(aes, plaintext)
    return json.dumps(
        {
            "schema_version": "1.0.0",
            "header": {"kid": kid, "alg": "dir", "enc": "CKM_RSA_AES_KEY_WRAP"},
            "ciphertext": base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode(),
            "generator": "clients; python3-cryptography",
        }
    ).encode()


def oaep(digest):
    return padding.OAEP(padding.MGF1(digest), digest, None)


@functools.lru_cache(maxsize=None)
def rsa_key(_which):
    return rsa.generate_private_key(65537, 2048)


@functools.lru_cache(maxsize=None)
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def pkcs8(key):
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def number(n):
    return n.to_bytes((n.bit_length() + 7) // 8, "big")


def jwk_of(key):
    """The private key's JSON Web Key, as fields for JsonWebKey."""
    n = key.private_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return dict(
            kty="RSA", n=number(n.public_numbers.n), e=number(n.public_numbers.e), d=number(n.d),
            p=number(n.p), q=number(n.q), dp=number(n.dmp1), dq=number(n.dmq1), qi=number(n.iqmp),
        )
    coordinate = lambda c: c.to_bytes(32, "big")
    return dict(
        kty="EC", crv="P-256", d=coordinate(n.private_value),
        x=coordinate(n.public_numbers.x), y=coordinate(n.public_numbers.y),
    )


def public_of(key):
    """The RSA public key of a KeyVaultKey."""
    numbers = rsa.RSAPublicNumbers(int.from_bytes(key.key.e, "big"), int.from_bytes(key.key.n, "big"))
    return numbers.public_key()
