#!/usr/bin/env bash
# Put one document before every configured model and compare what they say: flatline-orchestrator.sh FILE
set -euo pipefail

CONFIG="${LOA_CONFIG:-.loa.config.yaml}"

setting() {
  yq --unwrapScalar "$1 // \"$2\"" "$CONFIG"
}

get_model_primary() {
  setting '.flatline_protocol.models.primary' 'opus'
}

get_model_secondary() {
  setting '.flatline_protocol.models.secondary' 'gpt-5.3-codex'
}

get_model_tertiary() {
  setting '.hounfour.flatline_tertiary_model' ''
}

document="${1:?expected a file}"
for model in "$(get_model_primary)" "$(get_model_secondary)" "$(get_model_tertiary)"; do
  if [ -n "$model" ]; then
    GPT_REVIEW_MODEL="$model" "$(dirname "$0")/gpt-review-api.sh" prd "$document"
  fi
done
