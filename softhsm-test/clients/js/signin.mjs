// Every way to sign in: each @azure/identity credential that the emulator has an endpoint
// for gets a token that the vault takes.
import assert from "node:assert/strict";
import {
  ClientCertificateCredential,
  DefaultAzureCredential,
  ManagedIdentityCredential,
  WorkloadIdentityCredential,
} from "@azure/identity";
import { KeyClient } from "@azure/keyvault-keys";
import { all, options } from "./vault.mjs";

const list = (v, credential) => all(new KeyClient(v.vault, credential, options).listDeletedKeys());

// within sets environment variables while f runs.
async function within(environ, f) {
  Object.assign(process.env, environ);
  try {
    await f();
  } finally {
    for (const name of Object.keys(environ)) delete process.env[name];
  }
}

export const signIn = {
  "sign in by a virtual machine's managed identity": (v) => list(v, new ManagedIdentityCredential()),
  "sign in by App Service's managed identity": (v) =>
    within(v.setup.appService, () => list(v, new ManagedIdentityCredential({ clientId: v.setup.clientId }))),
  "sign in by workload identity": (v) =>
    list(v, new WorkloadIdentityCredential({
      tenantId: v.setup.tenantId,
      clientId: v.setup.clientId,
      tokenFilePath: v.setup.federatedToken,
    })),
  "sign in by a client certificate": (v) =>
    list(v, new ClientCertificateCredential(v.setup.tenantId, v.setup.application, v.setup.certificate)),
  "sign in by a certificate that is not registered": (v) =>
    list(v, new ClientCertificateCredential(v.setup.tenantId, v.setup.otherApplication, v.setup.certificate)),
  "sign in by the default chain": (v) =>
    list(v, new DefaultAzureCredential({ managedIdentityClientId: v.setup.clientId })),
  "call again after the tokens were revoked": async (v) => {
    const clientId = "revoked-" + v.name;
    const credential = new ClientCertificateCredential(v.setup.tenantId, clientId, v.setup.certificate);
    const keys = new KeyClient(v.vault, credential, options);
    await all(keys.listDeletedKeys());
    const body = JSON.stringify({ do: "RevokeTokens", what: clientId });
    assert.ok((await fetch(`${v.setup.admin}/meddle`, { method: "POST", body })).ok);
    await all(keys.listDeletedKeys()); // by a token requested with the challenge's claims
  },
  "sign in with a token that is no JWT": (v) =>
    list(v, new WorkloadIdentityCredential({
      tenantId: v.setup.tenantId,
      clientId: v.setup.clientId,
      tokenFilePath: v.setup.brokenToken,
    })),
};
