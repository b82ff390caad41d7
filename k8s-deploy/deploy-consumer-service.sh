#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
read_options 'Rolls out the Kafka consumer, after the migration.' "$@"
find_kubeconfig
render
check_runtimes
check_jobs_namespace
prepare consumer headrace-servers/mongodb-url headrace-servers/redis-url headrace-sealing-keys/keys
apply consumer
await consumer
