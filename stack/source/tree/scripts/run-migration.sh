#!/usr/bin/env bash
# Run one migration task to its end and fail with it: run-migration.sh FAMILY
set -euo pipefail

family="$PREFIX-${1:?expected a task family}"
cluster="$PREFIX-cluster"
MIGRATION_NETWORK="${MIGRATION_NETWORK:-$(aws ssm get-parameter --name "/$PREFIX/migration-network" \
  --query Parameter.Value --output text)}"

task="$(aws ecs run-task --cluster "$cluster" --task-definition "$family" --launch-type FARGATE \
  --network-configuration "$MIGRATION_NETWORK" --query 'tasks[0].taskArn' --output text)"
if [ "$task" = "None" ]; then
  echo "ECS started no task of $family" >&2
  exit 1
fi

aws ecs wait tasks-stopped --cluster "$cluster" --tasks "$task"
code="$(aws ecs describe-tasks --cluster "$cluster" --tasks "$task" \
  --query 'tasks[0].containers[0].exitCode' --output text)"
echo "$family ended with exit code $code"
if [ "$code" != "0" ]; then
  exit 1
fi
