#!/bin/bash -e
task=$(aws ecs run-task --task-definition "$1" --query 'tasks[0].taskArn' --output text)
aws ecs wait tasks-stopped --tasks "$task"
code=$(aws ecs describe-tasks --tasks "$task" --query 'tasks[0].containers[0].exitCode' --output text)
[ "$code" = "0" ] || { echo "migration of $1: $code"; exit 1; }
