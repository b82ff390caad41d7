#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
read_options 'Rolls out the workers, the sync, and the launcher where the overlay has one, after the migration.' "$@"
find_kubeconfig
render
check_runtimes
check_jobs_namespace
prepare 'worker, sync, launcher' headrace-servers/mongodb-url headrace-servers/redis-url headrace-sealing-keys/keys
apply 'worker, sync, launcher'
await worker sync
! has_launcher || await launcher
