#!/bin/sh
set -eu
token=$(curl -fsS -H Metadata:true \
  'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net' |
  sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl -fsS -H "Authorization: Bearer $token" -H Content-Type:application/json -d '{"kty":"EC","crv":"P-256"}' \
  'https://contoso-weu.vault.azure.net/keys/hello/create?api-version=7.6'
