"""Every way to sign in: each azure-identity credential that the emulator has an endpoint for
gets a token that the vault takes."""

import json
import os
import urllib.request
from unittest import mock

from azure.identity import CertificateCredential, DefaultAzureCredential, ManagedIdentityCredential
from azure.keyvault.keys import KeyClient

from connect import ServedVersion
from vault import OPTIONS


def enter(v, credential):
    list(KeyClient(v.vault, credential, per_call_policies=[ServedVersion()], **OPTIONS).list_deleted_keys())


def app_service(v):
    with mock.patch.dict(os.environ, v.setup["appService"]):
        enter(v, ManagedIdentityCredential(client_id=v.setup["clientId"]))


def federated(v, token_file):
    """Here ManagedIdentityCredential is a workload's too, when the environment is one's."""
    environ = {
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        "AZURE_TENANT_ID": v.setup["tenantId"],
        "AZURE_CLIENT_ID": v.setup["clientId"],
        "AZURE_FEDERATED_TOKEN_FILE": token_file,
    }
    with mock.patch.dict(os.environ, environ):
        enter(v, ManagedIdentityCredential())


def certificate(application):
    def sign_in(v):
        s = v.setup
        enter(v, CertificateCredential(s["tenantId"], s[application], s["certificate"]))

    return sign_in


def revoked(v):
    client_id = f"revoked-{v.name}"
    credential = CertificateCredential(v.setup["tenantId"], client_id, v.setup["certificate"])
    keys = KeyClient(v.vault, credential, per_call_policies=[ServedVersion()], **OPTIONS)
    list(keys.list_deleted_keys())
    body = json.dumps({"do": "RevokeTokens", "what": client_id}).encode()
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    directly.open(v.setup["admin"] + "/meddle", body).close()
    list(keys.list_deleted_keys())  # by a token requested with the challenge's claims


SIGN_IN = {
    "sign in by a virtual machine's managed identity": lambda v: enter(v, ManagedIdentityCredential()),
    "sign in by App Service's managed identity": app_service,
    "sign in by workload identity": lambda v: federated(v, v.setup["federatedToken"]),
    "sign in by a client certificate": certificate("application"),
    "sign in by a certificate that is not registered": certificate("otherApplication"),
    "sign in by the default chain": lambda v: enter(
        v, DefaultAzureCredential(managed_identity_client_id=v.setup["clientId"])
    ),
    "call again after the tokens were revoked": revoked,
    "sign in with a token that is no JWT": lambda v: federated(v, v.setup["brokenToken"]),
}
