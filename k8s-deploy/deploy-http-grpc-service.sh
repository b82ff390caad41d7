#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
read_options 'Rolls out the API, by HTTP and gRPC, after the migration.' "$@"
find_kubeconfig
render
check_runtimes
check_jobs_namespace
prepare api headrace-servers/mongodb-url headrace-servers/redis-url headrace-sealing-keys/keys headrace-api-keys/keys
apply api
await api
say "from this machine: kubectl port-forward -n $namespace service/api 8080:80 9090:9090 (HTTP and gRPC)"
