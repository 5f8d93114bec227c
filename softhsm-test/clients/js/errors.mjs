// What a vault refuses.
import { KeyClient } from "@azure/keyvault-keys";
import { all, options } from "./vault.mjs";

/** bearer is a credential that always gives the same token, good or not. */
const bearer = (token) => ({ getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3600e3 }) });

const withToken = (v, token) => new KeyClient(v.vault, bearer(token), options);

const numbered = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`t${i}`, ""]));

export const errors = {
  "call with a token that is none": (v) => withToken(v, "none").getKey("seen"),
  "call with a token for another audience": async (v) => {
    const { token } = await v.credential.getToken("https://management.azure.com/.default");
    await withToken(v, token).getKey("seen");
  },
  "call a vault that names another service's resource": (v) => v.at(v.foreign).getKey("seen"),
  "call without a role": (v) => v.at(v.roles).getKey("seen"),
  "call without an access policy": (v) => v.at(v.policies).getKey("seen"),
  "call from outside the firewall": (v) => v.at(v.firewall).getKey("seen"),
  "call by an api-version that is not served": (v) =>
    new KeyClient(v.vault, v.credential, { ...options, serviceVersion: "7.0" }).getKey("seen"),
  "get an unknown key": (v) => v.keys.getKey("absent"),
  "get a deleted key that is not": (v) => v.keys.getDeletedKey("seen"),
  "create over a deleted key": async (v) => {
    await v.create("taken", v.ec);
    const poller = await v.keys.beginDeleteKey("taken", { intervalInMs: 200 });
    await poller.pollUntilDone();
    await v.keys.createKey("taken", v.ec);
  },
  "create over a key that is being deleted": async (v) => {
    await v.create("going", v.ec);
    await v.keys.beginDeleteKey("going", { intervalInMs: 200 });
    await v.keys.createKey("going", v.ec);
  },
  "create by a name that is none": (v) => v.keys.createKey("a_b", v.ec),
  "create a kind of key that is none": (v) => v.keys.createKey("kind", "OKP-HSM"),
  "create RSA of 1024 bits": (v) => v.keys.createKey("small", v.rsa, { keySize: 1024 }),
  "create with 16 tags": (v) => v.keys.createKey("tagged", v.ec, { tags: numbered(16) }),
  "create a key that may import and more": (v) => v.keys.createKey("both", v.rsa, { keyOps: ["import", "wrapKey"] }),
  "page by more than 25": (v) => all(v.keys.listPropertiesOfKeys().byPage({ maxPageSize: 26 })),
  "call a vault that is busy once": (v) => v.keys.getKey("busy"),
  "call a vault that is busy": (v) => v.keys.getKey("throttled"),
  "call a vault that is busy and does not say for how long": (v) => v.keys.getKey("throttled-silently"),
  "call a vault that is unavailable": (v) => v.keys.getKey("unavailable"),
  "call a vault that fails": (v) => v.keys.getKey("broken"),
};
