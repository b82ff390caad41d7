#!/usr/bin/env bash
set -euo pipefail
. "$(dirname "$0")/lib.sh"
options_help+='
  --make-secrets       make those that are missing (make-secrets.sh)'
read_options 'Prepares both namespaces, brings the schema up to date, and rolls out every process.' "$@"
find_kubeconfig
render
check_runtimes
flink=${flink:-$jobs_namespace}
[ -f "$here/flink/$flink/kustomization.yaml" ] || stop "there is no k8s-deploy/flink/$flink for namespace $jobs_namespace: copy k8s-deploy/flink/flink-jobs, or say --flink"

secrets=(headrace-servers/mongodb-url headrace-servers/redis-url headrace-api-keys/keys headrace-sealing-keys/keys headrace-flower-login/login)
if [ "$make_secrets" = no ]; then
  has_namespace || stop "there is no namespace $namespace yet, and so no Secrets: say --make-secrets, or run $here/make-secrets.sh --overlay $overlay first"
else
  # It finds the same cluster by KUBECONFIG, which may be a list of files, and no --kubeconfig is.
  "$here/make-secrets.sh" --overlay "$overlay" ${context:+--context "$context"}
  has_changed "namespace $namespace and the Secrets that it lacked"
fi
check_secrets "${secrets[@]}"

processes='api, worker, sync, launcher, beat, consumer, flower'
would_apply "shared, servers, $processes"
# Objects of a namespace that is not there yet cannot be asked for.
! kube get namespace "$jobs_namespace" >/dev/null 2>&1 || taken_by_server --kustomize "$here/flink/$flink"
kube apply --validate=strict --kustomize "$here/flink/$flink"
has_changed "namespace $jobs_namespace"
if grep -q 'app.kubernetes.io/component: servers' "$rendered"; then
  apply servers
  has_changed 'the servers'
  for name in mongodb redis kafka; do
    kube rollout status "statefulset/$name" --namespace "$namespace" --timeout="${timeout}s" || fail_with_pods "headrace.io/server=$name" "$name does not start"
  done
fi
apply shared
migrate
apply "$processes"
await api worker sync beat consumer flower
! has_launcher || await launcher
say "from this machine: kubectl port-forward -n $namespace service/api 8080:80"
say "a key for it: kubectl get secret -n $namespace headrace-api-keys -o jsonpath='{.data.keys}' | base64 -d"
