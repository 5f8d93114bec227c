"""Operations that create, import, read, change, delete, rotate and attest keys."""

import base64
import datetime
import os

from azure.core.rest import HttpRequest
from azure.keyvault.keys import JsonWebKey, KeyRotationLifetimeAction, KeyRotationPolicy
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from cryptography.hazmat.primitives import hashes

from transfer import ec_key, jwk_of, oaep, pkcs8, public_of, rsa_key, transfer_blob

WRAPPING = ["unwrapKey", "wrapKey"]
VERSIONS = 101
SERVED = ["7.3", "7.4", "7.5", "7.6", "2025-07-01"]


def create_rsa(v):
    k = v.create("rsa", "RSA", size=2048, tags={"made": "here"})
    assert k.key_type in ("RSA", "RSA-HSM") and len(k.key.n) == 256 and k.properties.tags == {"made": "here"}


def create_rsa_hsm(v):
    assert v.create("rsa-hsm", "RSA-HSM", size=2048).key_type == "RSA-HSM"


def create_ec(v):
    assert v.create("ec", "EC", curve="P-256").key.crv == "P-256"


def create_ec_hsm(v):
    k = v.create("ec-hsm", "EC-HSM", curve="P-384")
    assert k.key.crv == "P-384" and len(k.key.x) == 48


def create_oct_hsm(v):
    assert v.create("oct-hsm", "oct-HSM", size=256).key_type == "oct-HSM"


def create_kek(v):
    k = v.create("kek", "RSA-HSM", size=2048, key_operations=["import"])
    assert k.key_operations == ["import"]


def import_rsa(v):
    jwk = jwk_of(rsa_key("ours"))
    assert v.bring("plain-rsa", JsonWebKey(**jwk)).key.n == jwk["n"]


def import_ec_hsm(v):
    jwk = jwk_of(ec_key())
    k = v.bring("plain-ec", JsonWebKey(**jwk), hardware_protected=True)
    assert k.key_type == "EC-HSM" and k.key.x == jwk["x"]


def transfer(v, name, kty, plaintext, kek=None, **more):
    if "kek" in v.made:
        kid, public = v.made["kek"].id, public_of(v.made["kek"])
    else:  # where there can be none
        kid, public = f"{v.vault}/keys/kek/{'0' * 32}", rsa_key("another").public_key()
    blob = transfer_blob(kid, kek or public, plaintext)
    return v.bring(name, JsonWebKey(kty=kty, t=blob, **more))


def byok_rsa(v):
    key = rsa_key("ours")
    k = transfer(v, "byok-rsa", "RSA-HSM", pkcs8(key), key_ops=WRAPPING)
    assert k.key.n == jwk_of(key)["n"] and sorted(k.key_operations) == WRAPPING
    secret = os.urandom(32)
    wrapped = key.public_key().encrypt(secret, oaep(hashes.SHA256()))
    assert v.using("byok-rsa").unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == secret


def byok_ec(v):
    k = transfer(v, "byok-ec", "EC-HSM", pkcs8(ec_key()), crv="P-256", key_ops=["sign", "verify"])
    assert k.key.x == jwk_of(ec_key())["x"]


def byok_oct(v):
    assert transfer(v, "byok-oct", "oct-HSM", os.urandom(32), key_ops=WRAPPING).key_type == "oct-HSM"


def byok_bad(v):
    another = rsa_key("another").public_key()
    transfer(v, "byok-bad", "RSA-HSM", pkcs8(rsa_key("ours")), kek=another, key_ops=WRAPPING)


def get(v):
    made = v.create("seen", v.ec, tags={"a": "b"})
    k = v.keys.get_key("seen")
    assert k.id == made.id and k.properties.enabled and "Purgeable" in k.properties.recovery_level


def get_version(v):
    old = v.made["seen"]
    newer = v.create("seen", v.ec)
    assert v.keys.get_key("seen", old.properties.version).id == old.id
    assert v.keys.get_key("seen").id == newer.id


def get_by_each_version(v):
    """This SDK knows none after 7.4, and sends what it is asked to."""
    for version in SERVED:
        answer = v.keys.send_request(HttpRequest("GET", f"{v.vault}/keys/seen/?api-version={version}"))
        answer.raise_for_status()


def list_keys(v):
    names = {p.name for p in v.keys.list_properties_of_keys()}
    assert names >= set(v.made), set(v.made) - names


def list_versions(v):
    made = [v.keys.create_key("many", v.ec).id for _ in range(VERSIONS - 1)]
    pages = [list(page) for page in v.keys.list_properties_of_key_versions("many").by_page()]
    assert len(pages) >= 4, len(pages)
    assert sorted(p.id for page in pages for p in page) == sorted(made)


def list_nothing(v):
    assert list(v.keys.list_properties_of_key_versions("absent")) == []


def update(v):
    p = v.made["seen"].properties
    expires_on = datetime.datetime(2037, 1, 1, tzinfo=datetime.timezone.utc)
    v.keys.update_key_properties(
        p.name, p.version, enabled=False, expires_on=expires_on, tags={"c": "d"}, key_operations=["sign"]
    )
    [now] = [q for q in v.keys.list_properties_of_key_versions(p.name) if q.version == p.version]
    assert now.enabled is False and now.expires_on == expires_on and now.tags == {"c": "d"}


def gone(keys, name):
    """Deletes a key and waits until it is."""
    poller = keys.begin_delete_key(name, _polling_interval=0.2)
    poller.wait()
    return poller.result()


def delete(v):
    v.create("gone", v.ec)
    assert gone(v.keys, "gone").recovery_id == f"{v.vault}/deletedkeys/gone"


def get_deleted(v):
    k = v.keys.get_deleted_key("gone")
    assert k.scheduled_purge_date > k.deleted_date


def list_deleted(v):
    assert "gone" in [k.name for k in v.keys.list_deleted_keys()]


def recover(v):
    poller = v.keys.begin_recover_deleted_key("gone", _polling_interval=0.2)
    poller.wait()
    assert poller.result().name == "gone"
    assert v.keys.get_key("gone").id == v.made["gone"].id


def purge(v):
    gone(v.keys, "gone")
    v.keys.purge_deleted_key("gone")
    v.create("gone", v.ec)  # the name is free again


def purge_protected(v):
    keys = v.at(v.protected)
    keys.create_key("kept", v.ec)
    gone(keys, "kept")
    keys.purge_deleted_key("kept")


def set_policy(v):
    v.create("turned", v.ec)
    action = KeyRotationLifetimeAction("rotate", time_before_expiry="P30D")
    turn = KeyRotationPolicy(lifetime_actions=[action], expires_in="P90D")
    policy = v.keys.update_key_rotation_policy("turned", turn)
    assert policy.expires_in == "P90D"


def get_policy(v):
    policy = v.keys.get_key_rotation_policy("turned")
    action = policy.lifetime_actions[0]
    assert policy.expires_in == "P90D" and action.time_before_expiry == "P30D" and action.action.lower() == "rotate"


def rotate(v):
    k = v.keys.rotate_key("turned")
    assert k.id != v.made["turned"].id
    days = (k.properties.expires_on - k.properties.created_on).days
    assert 89 <= days <= 90, days


def rotate_imported(v):
    v.bring("brought", JsonWebKey(**dict(jwk_of(ec_key()), kty=v.ec)))
    v.keys.rotate_key("brought")


def attestation(v):
    """This SDK has no method for it, and sends what it is asked to."""
    version = v.create("attested", v.ec).properties.version
    url = f"{v.vault}/keys/attested/{version}/attestation?api-version=7.6"  # the first that has it
    answer = v.keys.send_request(HttpRequest("GET", url))
    answer.raise_for_status()
    a = answer.json()["attributes"]["attestation"]
    decode = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert a["version"] == "MRVL-1"
    assert decode(a["certificatePemFile"]).startswith(b"-----BEGIN CERTIFICATE")
    assert len(decode(a["privateKeyAttestation"])) > 256 and len(decode(a["publicKeyAttestation"])) > 256


KEYS = {
    "create RSA": create_rsa,
    "create RSA-HSM": create_rsa_hsm,
    "create EC": create_ec,
    "create EC-HSM": create_ec_hsm,
    "create oct-HSM": create_oct_hsm,
    "create a key exchange key": create_kek,
    "import RSA": import_rsa,
    "import EC as an HSM key": import_ec_hsm,
    "BYOK import RSA-HSM": byok_rsa,
    "BYOK import EC-HSM": byok_ec,
    "BYOK import oct-HSM": byok_oct,
    "BYOK import of a blob to another key": byok_bad,
    "get": get,
    "get a version": get_version,
    "get by each api-version that is served": get_by_each_version,
    "list keys": list_keys,
    "list versions, page by page": list_versions,
    "create a 101st version": lambda v: v.keys.create_key("many", v.ec),
    "list the versions of an unknown key": list_nothing,
    "update": update,
    "delete": delete,
    "get a deleted key": get_deleted,
    "list deleted keys": list_deleted,
    "recover": recover,
    "purge": purge,
    "purge where purge protection is on": purge_protected,
    "set a rotation policy": set_policy,
    "get a rotation policy": get_policy,
    "rotate": rotate,
    "rotate an imported key": rotate_imported,
    "attestation": attestation,
}
