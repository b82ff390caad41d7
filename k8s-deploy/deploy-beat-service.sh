#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
read_options 'Rolls out Beat, after the migration.' "$@"
find_kubeconfig
render
prepare beat headrace-servers/mongodb-url headrace-servers/redis-url
apply beat
await beat
