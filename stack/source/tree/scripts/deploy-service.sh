#!/usr/bin/env bash
# Point a service at a new image and wait until it runs: deploy-service.sh SERVICE TAG
set -euo pipefail

service="$PREFIX-${1:?expected a service}"
tag="${2:?expected a git sha}"

current="$(aws ecs describe-task-definition --task-definition "$service" --query taskDefinition)"
next="$(jq --arg tag "$tag" '.containerDefinitions[0].image |= sub(":[^:]+$"; ":" + $tag)
  | {family, cpu, memory, networkMode, executionRoleArn, requiresCompatibilities, containerDefinitions}' <<<"$current")"
revision="$(aws ecs register-task-definition --cli-input-json "$next" --query taskDefinition.taskDefinitionArn --output text)"
aws ecs update-service --cluster "$PREFIX-cluster" --service "$service" --task-definition "$revision" >/dev/null
aws ecs wait services-stable --cluster "$PREFIX-cluster" --services "$service"
