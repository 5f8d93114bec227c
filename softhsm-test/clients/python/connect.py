from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ManagedIdentityCredential
from azure.keyvault.keys import KeyClient


class ServedVersion(SansIOHTTPPolicy):
    """For azure-keyvault-keys before 4.8.0: by itself it asks for a version that is not served."""

    def on_request(self, request):
        request.http_request.url = request.http_request.url.replace("7.4-preview.1", "7.4")


def connect(vault, client_id, **options):
    credential = ManagedIdentityCredential(client_id=client_id)
    return credential, KeyClient(vault, credential, per_call_policies=[ServedVersion()], **options)
