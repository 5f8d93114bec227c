#!/usr/bin/env bash
# Rotates a key as an operator's script does it today, with openssl, pkcs11-tool and curl, and prints how many
# nanoseconds it took to make the pair. It needs MODULE, TOKEN, PINFILE, VAULT (a URL), KEK, KEY and a directory to
# work in, and the environment of a managed identity.
#
# pkcs11-tool wraps no private keys (OpenSC 0.23), so the script makes the pair outside the token and writes it there.
# keyd never does that. The script also remembers nothing, and tries nothing again.
set -euo pipefail
cd "$1"

vault() { # METHOD PATH [BODY]
  curl -fsS -X "$1" -H "Authorization: Bearer $token" -H Content-Type:application/json ${3:+-d "$3"} \
    "$VAULT$2?api-version=7.6"
}
token_tool() {
  pkcs11-tool --module "$MODULE" --token-label "$TOKEN" --login --pin "$(<"$PINFILE")" "$@" >/dev/null 2>&1
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
url64() { basenc --base64url -w 0 | tr -d =; }
plain64() { # from base64url without padding
  local text
  text=$(cat)
  while ((${#text} % 4)); do text+==; done
  basenc --base64url -d <<<"$text"
}
hex() { od -An -v -tx1 | tr -d ' \n'; }

token=$(curl -fsS -H Metadata:true \
  "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net" |
  field access_token)
vault GET "/keys/$KEY/versions" >versions

# The pair, in the token.
began=$(date +%s%N)
openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -outform DER -out private.der
made=$(($(date +%s%N) - began))
id=$(openssl rand -hex 16)
token_tool --write-object private.der --type privkey --id "$id" --label "$KEY" --sensitive --usage-decrypt

# The key exchange key, as openssl reads it.
vault GET "/keys/$KEK" >kek
kid=$(field kid <kek)
cat >kek.conf <<END
asn1=SEQUENCE:key
[key]
algorithm=SEQUENCE:rsa
bits=BITWRAP,SEQUENCE:numbers
[rsa]
oid=OID:rsaEncryption
none=NULL
[numbers]
n=INTEGER:0x$(field n <kek | plain64 | hex)
e=INTEGER:0x$(field e <kek | plain64 | hex)
END
openssl asn1parse -genconf kek.conf -noout -out kek.der

# The transfer blob: an AES key for the key exchange key, then the private key under the AES key.
openssl rand -out aes 32
openssl pkeyutl -encrypt -pubin -keyform DER -inkey kek.der -pkeyopt rsa_padding_mode:oaep -in aes -out head
openssl pkcs8 -topk8 -nocrypt -inform DER -in private.der -outform DER -out pkcs8.der
openssl enc -id-aes256-wrap-pad -K "$(hex <aes)" -iv A65959A6 -in pkcs8.der -out tail
blob="{\"schema_version\":\"1.0.0\",\"header\":{\"kid\":\"$kid\",\"alg\":\"dir\",\"enc\":\"CKM_RSA_AES_KEY_WRAP\"},"
blob+="\"ciphertext\":\"$(cat head tail | url64)\",\"generator\":\"script\"}"
key="{\"kty\":\"RSA-HSM\",\"key_hsm\":\"$(printf %s "$blob" | url64)\",\"key_ops\":[\"wrapKey\",\"unwrapKey\"]}"
version=$(vault PUT "/keys/$KEY" "{\"key\":$key}" | field kid)
version=${version#"$VAULT"}

# The proof: what is closed outside the vault opens, and the token opens what it closes.
openssl rand -out secret 32
openssl pkeyutl -encrypt -keyform DER -inkey private.der -pkeyopt rsa_padding_mode:oaep -in secret -out sealed
vault POST "$version/unwrapkey" "{\"alg\":\"RSA-OAEP\",\"value\":\"$(url64 <sealed)\"}" | field value | plain64 >opened
cmp -s secret opened
vault POST "$version/wrapkey" "{\"alg\":\"RSA-OAEP\",\"value\":\"$(url64 <secret)\"}" | field value | plain64 >sealed
token_tool --decrypt --mechanism RSA-PKCS-OAEP --hash-algorithm SHA-1 --id "$id" --input-file sealed \
  --output-file opened
cmp -s secret opened
[[ $(vault GET "/keys/$KEY" | field kid) == "$VAULT$version" ]]

shred -u private.der pkcs8.der aes secret opened
echo "$made"
