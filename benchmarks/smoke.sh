#!/usr/bin/env bash
# A smoke test of the six phases as a shell script would have it: curl, jq and openssl. It is what the suite is
# measured against, and asserts a status and a field for each of its calls.
# usage: FREESIDE=url FINN=url DIXIE=url KEY=pem COMMUNITY=id AGENT=id smoke.sh; prints the number of its calls
set -euo pipefail
calls=0 body='' status=''

call() { # call URL [curl's options]: sets status and body
  local answer
  answer=$(curl --silent --show-error --max-time 10 --write-out '\n%{http_code}' "$@")
  status=${answer##*$'\n'} body=${answer%$'\n'*} calls=$((calls + 1))
}
expect() { # expect STATUS [FILTER of jq]
  [[ $status == "$1" ]] || { echo "status $status, not $1: $body" >&2; exit 1; }
  [[ $# -lt 2 ]] || jq --exit-status "$2" <<<"$body" >/dev/null || { echo "not $2: $body" >&2; exit 1; }
}
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
token() { # token AUDIENCE LIFETIME: an ES256 token, spent by one call
  local now head claims der r s
  now=$(date +%s)
  head=$(jq --null-input --compact-output --arg kid "$kid" '{alg: "ES256", typ: "JWT", kid: $kid}' | base64url)
  claims=$(jq --null-input --compact-output --arg aud "$1" --arg tenant "$COMMUNITY" --argjson now "$now" \
    --argjson life "$2" --arg jti "$(cat /proc/sys/kernel/random/uuid)" '{iss: "arrakis", aud: $aud,
    sub: "0x1111111111111111111111111111111111111111", tenant_id: $tenant, tier: "pro", pool_id: "cheap",
    allowed_pools: ["cheap", "fast-code", "reviewer"], iat: ($now - 60), exp: ($now + $life), jti: $jti}' | base64url)
  # the signature is r and s of 32 bytes each; openssl writes them as integers in DER
  der=$(printf '%s.%s' "$head" "$claims" | openssl dgst -sha256 -sign "$KEY" | openssl asn1parse -inform DER)
  r=$(sed -n 's/.*INTEGER *://p' <<<"$der" | sed -n 1p) s=$(sed -n 's/.*INTEGER *://p' <<<"$der" | sed -n 2p)
  printf '%s.%s.%s' "$head" "$claims" \
    "$(printf '%064s%064s' "$r" "$s" | tr ' ' 0 | tr -d '\n' | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64url)"
}
bearer() { printf 'Authorization: Bearer %s' "$(token "${1:-arrakis}" "${2:-300}")"; }
invoke() { # invoke [curl's options]
  call "$FREESIDE/api/agents/invoke" --json '{"prompt": "say yes", "model": "cheap"}' "$@"
}
budget() { call "$FREESIDE/api/v1/communities/$COMMUNITY/budget" --header "$(bearer)"; expect 200 '.committed >= 0'; }

# health
call "$FREESIDE/health"; expect 200 '.status == "healthy"'
call "$FINN/health"; expect 200 '.ready_for_billing'
call "$DIXIE/api/health"; expect 200 '.status == "healthy"'
# keys
call "$FREESIDE/.well-known/jwks.json"; expect 200 '.keys[0].kty == "EC"'
kid=$(jq --raw-output '.keys[0].kid' <<<"$body")
call "$FINN/.well-known/jwks.json"; expect 200 '.keys[0].alg == "ES256"'
call "$DIXIE/api/auth/.well-known/jwks.json"; expect 200 '.keys[0].use == "sig"'
# auth
call "$FREESIDE/api/agents/models"; expect 401
call "$FREESIDE/api/agents/models" --header "$(bearer)"; expect 200 '.models | length > 0'
call "$FREESIDE/api/agents/models" --header "$(bearer nobody)"; expect 401
call "$FREESIDE/api/agents/models" --header "$(bearer arrakis -120)"; expect 401
call "$FREESIDE/api/agents/models" --header "$(bearer)x"; expect 401
# invoke
invoke --header "$(bearer)"; expect 200 '.content != "" and (.usage.costMicro | tonumber) > 0'
invoke --header "$(bearer)" --header "X-Idempotency-Key: bash-$$"; expect 200
invoke --header "$(bearer)" --header "X-Idempotency-Key: bash-$$"; expect 200
call "$FREESIDE/api/agents/invoke" --header "$(bearer)" --json 'null'; expect 400
# budget
budget; before=$(jq .committed <<<"$body")
invoke --header "$(bearer)"; expect 200
budget; expect 200 ".committed >= $before"
# reputation, and the loop to it
query() { call "$DIXIE/api/reputation/query?routingKey=nft:$AGENT" --header "$(bearer loa-dixie)"; expect 200 'has("score")'; }
call "$DIXIE/api/reputation/query?routingKey=nft:$AGENT"; expect 401
query
call "$FREESIDE/api/agents/quality" --header "$(bearer)" \
  --json "{\"routingKey\": \"nft:$AGENT\", \"quality\": \"good\", \"source\": \"smoke\"}"; expect 202
query
echo "$calls"
