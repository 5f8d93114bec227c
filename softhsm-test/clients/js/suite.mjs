// The operations as a user of @azure/keyvault-keys does them. The one argument is
// the setup file; each operation it asks for becomes one line of JSON.
import { readFileSync } from "node:fs";
import { errors } from "./errors.mjs";
import { keys } from "./keys.mjs";
import { signIn } from "./signin.mjs";
import { uses } from "./uses.mjs";
import { Vault } from "./vault.mjs";

const operations = { ...keys, ...uses, ...errors, ...signIn };

async function outcome(operation, vault) {
  if (!operations[operation]) return { outcome: "missing" };
  try {
    await operations[operation](vault);
    return { outcome: "ok" };
  } catch (error) {
    return { outcome: "error", error: report(error) };
  }
}

// report tells an error as the SDK does.
function report(error) {
  return {
    class: error.name,
    status: error.statusCode,
    code: error.code,
    inner: error.details?.error?.innerError?.code,
    message: error.message,
  };
}

const setup = JSON.parse(readFileSync(process.argv[2]));
for (const profile of setup.profiles) {
  const vault = new Vault(profile, setup);
  for (const operation of profile.operations) {
    const line = { profile: profile.name, operation, ...(await outcome(operation, vault)) };
    console.log(JSON.stringify(line));
  }
}
