"""The operations as a user of azure-keyvault-keys does them. The one argument is the setup
file; each operation it asks for becomes one line of JSON."""

import json
import sys

from errors import ERRORS
from keys import KEYS
from signin import SIGN_IN
from uses import USES
from vault import NotInThisSDK, Vault

OPERATIONS = {**KEYS, **USES, **ERRORS, **SIGN_IN}


def outcome(operation, vault):
    if operation not in OPERATIONS:
        return {"outcome": "missing"}
    try:
        OPERATIONS[operation](vault)
        return {"outcome": "ok"}
    except NotInThisSDK:
        return {"outcome": "absent"}
    except Exception as error:
        return {"outcome": "error", "error": report(error)}


def report(error):
    """Tells an error as the SDK does; body is what the service sent."""
    told = {"class": type(error).__name__, "message": str(error) or repr(error)}
    service = getattr(error, "error", None)
    if service is not None:
        inner = service.innererror or {}
        told.update(code=service.code, message=service.message, inner=inner.get("code", ""))
    if getattr(error, "response", None) is not None:
        told.update(status=error.response.status_code, body=error.response.text())
    return told


def main():
    with open(sys.argv[1]) as file:
        setup = json.load(file)
    for profile in setup["profiles"]:
        vault = Vault(profile, setup)
        for operation in profile["operations"]:
            line = {"profile": profile["name"], "operation": operation, **outcome(operation, vault)}
            print(json.dumps(line), flush=True)


main()
