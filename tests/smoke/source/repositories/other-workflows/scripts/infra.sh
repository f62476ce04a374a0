set -e
cd infrastructure
tofu apply -auto-approve tfplan
