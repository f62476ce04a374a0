#!/usr/bin/env bash
# Build and push the image of the API and the worker: build-images.sh TAG
set -euo pipefail

tag="${1:?expected a git sha}"
REGISTRY="${REGISTRY:-$(aws ecr describe-registry --query registryId --output text).dkr.ecr.$AWS_REGION.amazonaws.com}"
docker build --tag "$REGISTRY/$PREFIX-api:$tag" .
docker push "$REGISTRY/$PREFIX-api:$tag"
