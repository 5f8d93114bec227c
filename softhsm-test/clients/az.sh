# A key made by the az command line, and read.
set -eu
az login --identity --output none
az rest --resource https://vault.azure.net --method post \
  --url 'https://contoso-weu.vault.azure.net/keys/hello/create?api-version=7.6' --body '{"kty":"EC","crv":"P-256"}'
az rest --resource https://vault.azure.net --url 'https://contoso-weu.vault.azure.net/keys/hello?api-version=7.6' \
  --query key.kid --output tsv
