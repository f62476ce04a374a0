#!/usr/bin/env bash
# Ask the second model to review one document: gpt-review-api.sh prd|sdd|sprint FILE
set -euo pipefail

declare -A DEFAULT_MODELS=(
  ["prd"]="gpt-5.3-codex"
  ["sdd"]="gpt-5.3-codex"
  ["sprint"]="gpt-5.3-codex"
)

kind="${1:?expected one of: ${!DEFAULT_MODELS[*]}}"
document="${2:?expected a file}"
model="${GPT_REVIEW_MODEL:-${DEFAULT_MODELS[$kind]}}"

jq --null-input --arg model "$model" --rawfile text "$document" '{model: $model, input: $text}' |
  curl --fail --silent --show-error --json @- "${REVIEW_ENDPOINT:?not set}"
