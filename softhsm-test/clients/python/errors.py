"""What a vault refuses."""

import time

from azure.core.credentials import AccessToken
from azure.keyvault.keys import KeyClient

from connect import ServedVersion
from keys import gone
from vault import OPTIONS


class Bearer:
    """A credential that always gives the same token, good or not."""

    def __init__(self, token):
        self.token = token

    def get_token(self, *scopes, **kwargs):
        return AccessToken(self.token, int(time.time()) + 3600)


def with_token(v, token):
    return KeyClient(v.vault, Bearer(token), per_call_policies=[ServedVersion()], **OPTIONS).get_key("seen")


def other_audience(v):
    with_token(v, v.credential.get_token("https://management.azure.com/.default").token)


def deleted_name(v):
    v.create("taken", v.ec)
    gone(v.keys, "taken")
    v.keys.create_key("taken", v.ec)


def name_being_deleted(v):
    v.create("going", v.ec)
    v.keys.begin_delete_key("going", _polling_interval=0.2)
    v.keys.create_key("going", v.ec)


def get(name):
    return lambda v: v.keys.get_key(name)


ERRORS = {
    "call with a token that is none": lambda v: with_token(v, "none"),
    "call with a token for another audience": other_audience,
    "call a vault that names another service's resource": lambda v: v.at(v.foreign).get_key("seen"),
    "call without a role": lambda v: v.at(v.roles).get_key("seen"),
    "call without an access policy": lambda v: v.at(v.policies).get_key("seen"),
    "call from outside the firewall": lambda v: v.at(v.firewall).get_key("seen"),
    "call by an api-version that is not served": lambda v: KeyClient(
        v.vault, v.credential, api_version="7.0", **OPTIONS
    ).get_key("seen"),
    "get an unknown key": get("absent"),
    "get a deleted key that is not": lambda v: v.keys.get_deleted_key("seen"),
    "create over a deleted key": deleted_name,
    "create over a key that is being deleted": name_being_deleted,
    "create by a name that is none": lambda v: v.keys.create_key("a_b", v.ec),
    "create a kind of key that is none": lambda v: v.keys.create_key("kind", "OKP-HSM"),
    "create RSA of 1024 bits": lambda v: v.keys.create_key("small", v.rsa, size=1024),
    "create with 16 tags": lambda v: v.keys.create_key("tagged", v.ec, tags={f"t{i}": "" for i in range(16)}),
    "create a key that may import and more": lambda v: v.keys.create_key(
        "both", v.rsa, key_operations=["import", "wrapKey"]
    ),
    "page by more than 25": lambda v: list(v.keys.list_properties_of_keys(max_page_size=26)),
    "call a vault that is busy once": get("busy"),
    "call a vault that is busy": get("throttled"),
    "call a vault that is busy and does not say for how long": get("throttled-silently"),
    "call a vault that is unavailable": get("unavailable"),
    "call a vault that fails": get("broken"),
}
