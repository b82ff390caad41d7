#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
options_help+='

The addresses of MongoDB and Redis are read from HEADRACE_MONGODB_URL and HEADRACE_REDIS_URL, logins included; an overlay
with servers of its own (dev) needs neither. Keys are made of chance. A Secret that is there stays as it is.'
read_options 'Makes the namespace and those Secrets in it that are missing.' "$@"
need openssl
find_kubeconfig
render

servers_are_ours() { grep -q 'app.kubernetes.io/component: servers' "$rendered"; }

# make NAME KEY: a Secret with what comes in. No value is an argument of a program, where others of the machine read it.
make() {
  {
    printf 'apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata: {name: %s, namespace: %s}\nstringData:\n' "$1" "$namespace"
    while read -r line; do printf '  %s: "%s"\n' "${line%%=*}" "${line#*=}"; done
  } | kube create --validate=strict --filename -
}

is_there() { kube get secret "$1" --namespace "$namespace" >/dev/null 2>&1; }

quoted() { [[ $1 != *[\"\\]* ]] || stop "an address of a server holds a quote or a backslash: write it as %22 or %5C"; }

if ! is_there headrace-servers && ! servers_are_ours; then
  [ -n "${HEADRACE_MONGODB_URL:-}" ] || stop 'HEADRACE_MONGODB_URL is not set: mongodb://user:password@mongodb:27017/?directConnection=true, or your mongodb+srv://'
  [ -n "${HEADRACE_REDIS_URL:-}" ] || stop 'HEADRACE_REDIS_URL is not set: redis://:password@redis:6379/0, or rediss://'
  quoted "$HEADRACE_MONGODB_URL"
  quoted "$HEADRACE_REDIS_URL"
fi
kube apply --filename "$here/overlays/$overlay/namespace.yaml"

if ! is_there headrace-servers; then
  if servers_are_ours; then
    password=$(openssl rand -hex 24)
    printf 'redis.conf=bind * -::*\\nprotected-mode yes\\nappendonly yes\\ndir /data\\nmaxmemory 256mb\\nmaxmemory-policy noeviction\\nrequirepass %s\\n\n' "$password" | make headrace-redis
    HEADRACE_MONGODB_URL='mongodb://mongodb:27017/?replicaSet=rs0' HEADRACE_REDIS_URL=redis://:$password@redis:6379/0
  fi
  printf 'mongodb-url=%s\nredis-url=%s\n' "$HEADRACE_MONGODB_URL" "$HEADRACE_REDIS_URL" | make headrace-servers
fi
is_there headrace-api-keys || printf 'keys=%s\n' "$(openssl rand -hex 32)" | make headrace-api-keys
is_there headrace-sealing-keys || printf 'keys=%s\n' "$(openssl rand -base64 64 | tr -d '\n')" | make headrace-sealing-keys
is_there headrace-flower-login || printf 'login=headrace:%s\n' "$(openssl rand -hex 24)" | make headrace-flower-login
say "the Secrets of namespace $namespace are there"
