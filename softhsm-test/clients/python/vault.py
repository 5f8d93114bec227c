from azure.keyvault.keys.crypto import CryptographyClient

from connect import ServedVersion, connect

# The SDK tries once more, and soon.
OPTIONS = dict(retry_total=1, retry_backoff_factor=0.01)


class NotInThisSDK(Exception):
    """What the operation needs, the SDK has not."""


class Vault:
    """One profile's vault, what was made in it so far, and its neighbours."""

    def __init__(self, profile, setup):
        self.__dict__.update(profile)  # name, vault, roles, policies, firewall, protected, foreign, rsa, ec
        self.setup = setup
        self.credential, self.keys = connect(self.vault, setup["clientId"], **OPTIONS)
        self.made, self.results = {}, {}

    def at(self, url):
        """A client of a neighbouring vault."""
        return connect(url, self.setup["clientId"], **OPTIONS)[1]

    def create(self, name, kty, **more):
        self.made[name] = self.keys.create_key(name, kty, **more)
        return self.made[name]

    def bring(self, name, jwk, **more):
        self.made[name] = self.keys.import_key(name, jwk, **more)
        return self.made[name]

    def using(self, name):
        """A client for one version of a key."""
        key_id = self.made[name].id if name in self.made else f"{self.vault}/keys/{name}"
        return CryptographyClient(key_id, self.credential, per_call_policies=[ServedVersion()], **OPTIONS)
