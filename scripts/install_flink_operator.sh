#!/usr/bin/env bash
# cert-manager and the Flink Kubernetes Operator: by Helm, or by the manifests beside this where there is none. A second
# run with the same options changes nothing. Everything is fetched before the cluster is touched.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../k8s-deploy/lib.sh
. "$scripts/../k8s-deploy/lib.sh"

watch=flink-jobs namespace=flink-operator-system version=1.15.0 certificates=v1.19.1 webhook=yes by=''
registry=ghcr.io/apache/flink-kubernetes-operator
downloads=https://downloads.apache.org/flink
certificates_from=https://github.com/cert-manager/cert-manager/releases/download
chart='' timeout=300

about() {
  cat <<'EOT'
Installs cert-manager and the Flink Kubernetes Operator, or brings them to the versions that are asked for.

usage: install_flink_operator.sh [options]
  --watch NAMESPACES             where it looks for jobs, with commas (default: flink-jobs); ALL: everywhere
  --namespace NAME               its own (default: flink-operator-system)
  --without-webhook              without the webhook, and so without cert-manager
  --operator-version VERSION     default: 1.15.0; 1.10 or later, for FlinkStateSnapshots
  --cert-manager-version VERSION default: v1.19.1
  --image REPOSITORY             the operator's image, from a mirror (default: ghcr.io/apache/flink-kubernetes-operator)
  --downloads URL                where its chart is (default: https://downloads.apache.org/flink; releases that are not
                                 the latest: https://archive.apache.org/dist/flink)
  --cert-manager-from URL        where cert-manager's manifests are (default: its releases on GitHub)
  --chart PATH                   a chart that you have, a folder or a .tgz, instead of a download
  --manifests                    no Helm, though there is one
  --kubeconfig FILE, --context NAME, --timeout SECONDS   as of k8s-deploy/deploy-all.sh

A cert-manager that this has installed is brought to the version that is asked for, and completed where a run stopped. One
that somebody else installed, or changed since, stays as it is.
EOT
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) about; exit 0 ;;
    --without-webhook) webhook=no; shift; continue ;;
    --manifests) by=manifests; shift; continue ;;
  esac
  case $1 in
    --watch | --namespace | --operator-version | --cert-manager-version | --image | --downloads | --cert-manager-from | --chart | --kubeconfig | --context | --timeout) ;;
    *) about >&2; stop "there is no option $1" ;;
  esac
  [ $# -gt 1 ] && [ -n "$2" ] || stop "$1 needs a value"
  case $1 in
    --watch) watch=$2 ;;
    --namespace) namespace=$2 ;;
    --operator-version) version=$2 ;;
    --cert-manager-version) certificates=$2 ;;
    --image) registry=$2 ;;
    --downloads) downloads=${2%/} ;;
    --cert-manager-from) certificates_from=${2%/} ;;
    --chart) chart=$2 ;;
    --kubeconfig) kubeconfig=$2 ;;
    --context) context=$2 ;;
    --timeout) timeout=$2 ;;
  esac
  shift 2
done

[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || stop "--operator-version is like 1.15.0, not $version"
[[ $certificates =~ ^v[0-9]+\.[0-9]+\.[0-9]+$ ]] || stop "--cert-manager-version is like v1.19.1, not $certificates"
[[ $timeout =~ ^[1-9][0-9]*$ ]] || stop "--timeout is a number of seconds, not $timeout"
if [ "${version%%.*}" = 1 ] && [ "$(cut -d. -f2 <<<"$version")" -lt 10 ]; then
  stop "--operator-version $version has no FlinkStateSnapshots, which Headrace takes savepoints by: 1.10.0 or later"
fi
watched=()
[ "$watch" = ALL ] || IFS=, read -ra watched <<<"$watch"
for each in "${watched[@]}" "$namespace"; do
  [[ $each =~ ^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$ ]] || stop "$each is no name of a namespace (--watch has them with commas)"
done
[ -n "$by" ] || { command -v helm >/dev/null && by=helm || by=manifests; }
[ "$by" = helm ] || [ "$webhook" = no ] || stop 'the webhook is installed by Helm alone, and there is none here (or --manifests was said): install Helm, or say --without-webhook. Without it the operator refuses what is wrong when it comes to it, and not when it is written'

# ---- fetch, before anything is touched

need kubectl
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fetch() {
  need curl
  curl --fail --silent --show-error --location --retry 2 --max-time 300 --output "$2" "$1" \
    || stop "$1 cannot be fetched; $3"
}

if [ -z "$chart" ]; then
  chart=$scratch/chart.tgz
  fetch "$downloads/flink-kubernetes-operator-$version/flink-kubernetes-operator-$version-helm.tgz" "$chart" \
    'behind a mirror say --downloads URL or --chart PATH; a release that is not the latest is at --downloads https://archive.apache.org/dist/flink'
fi
if [ -f "$chart" ]; then
  tar -xzf "$chart" -C "$scratch" || stop "$chart is no archive of a chart"
  chart=$scratch/flink-kubernetes-operator
fi
[ -f "$chart/Chart.yaml" ] && [ -d "$chart/crds" ] || stop "$chart is no chart of the Flink operator: it has no Chart.yaml and crds/"
has=$(sed -n 's/^version: *//p' "$chart/Chart.yaml")
[ "$has" = "$version" ] || stop "the chart is of version $has, and --operator-version is $version"

find_kubeconfig
[ "$(kube auth can-i create customresourcedefinitions 2>/dev/null)" = yes ] || stop "you may not make CustomResourceDefinitions in this cluster: this needs its administrator (kubectl auth can-i create customresourcedefinitions)"

# The CRDs alone are no cert-manager: a run may have stopped after them. Ours says on its namespace which version was
# applied to the end, so that it is told from somebody else's, whose certificates are not ours to put at risk.
certificates_mark=headrace.io/cert-manager
apply_certificates=no
if [ "$webhook" = yes ]; then
  certificates_found=$(kube get deployments --all-namespaces --selector app.kubernetes.io/name=cert-manager,app.kubernetes.io/component=controller --output 'go-template={{range .items}}{{.metadata.namespace}} {{.metadata.name}} {{index .metadata.labels "app.kubernetes.io/version"}}{{"\n"}}{{end}}' | head -n 1)
  read -r certificates_in certificates_by certificates_live <<<"$certificates_found" || true
  certificates_ours=$(kube get namespace cert-manager --ignore-not-found --output "go-template={{with .metadata.annotations}}{{with index . \"$certificates_mark\"}}{{.}}{{end}}{{end}}")
  if [ -z "$certificates_by" ] || [ "$certificates_in $certificates_ours" = 'cert-manager unfinished' ]; then
    apply_certificates=yes
  elif [ "$certificates_in" != cert-manager ] || [ "$certificates_ours" != "$certificates_live" ]; then
    [ "$certificates_live" = "$certificates" ] \
      || say "cert-manager $certificates_live is in namespace $certificates_in, and this did not install it: it stays, and is not brought to $certificates"
  elif [ "$certificates_live" != "$certificates" ]; then
    apply_certificates=yes
  fi
fi
if [ $apply_certificates = yes ]; then
  fetch "$certificates_from/$certificates/cert-manager.yaml" "$scratch/cert-manager.yaml" \
    'behind a mirror say --cert-manager-from URL, or do without: --without-webhook'
fi

# ---- install

rolled_out() {
  kube rollout status "deployment/$2" --namespace "$1" --timeout="${timeout}s" >&2 || {
    say "$2 is not ready in namespace $1:"
    kube get pods --namespace "$1" --output 'go-template={{range .items}}{{.metadata.name}}{{range .status.containerStatuses}}{{if .state.waiting}} {{.state.waiting.reason}}: {{.state.waiting.message}}{{end}}{{end}}{{"\n"}}{{end}}' >&2 || true
    stop "look at: kubectl get events -n $1"
  }
}

ensure_namespace() {
  kube get namespace "$1" >/dev/null 2>&1 && return
  local file="$here/flink/$1/namespace.yaml"
  if [ -f "$file" ]; then kube apply --filename "$file"; else kube create namespace "$1"; fi
}

# Helm leaves CRDs as they are once they are there, so an older one would stay.
kube --request-timeout="${timeout}s" apply --server-side --force-conflicts --filename "$chart/crds" \
  || stop 'the CRDs are not all as the chart has them, and the operator was not touched: run this again, it goes on from here'

if [ "$webhook" = yes ]; then
  if [ $apply_certificates = yes ]; then
    certificates_in=cert-manager certificates_by=cert-manager
    ensure_namespace cert-manager
    kube annotate --overwrite namespace cert-manager "$certificates_mark=unfinished" >/dev/null
    kube --request-timeout="${timeout}s" apply --filename "$scratch/cert-manager.yaml" \
      || stop 'cert-manager is not all as its manifests have it: run this again, it goes on from here'
    kube annotate --overwrite namespace cert-manager "$certificates_mark=$certificates" >/dev/null
  fi
  for each in $certificates_by $certificates_by-cainjector $certificates_by-webhook; do
    rolled_out "$certificates_in" "$each"
  done
fi
for each in "$namespace" "${watched[@]}"; do ensure_namespace "$each"; done

as="$version $registry $watch webhook=$webhook"
sign=$(sha256sum <<<"$as" | cut -c1-16)
installed=$(kube get deployment flink-kubernetes-operator --namespace "$namespace" --output 'go-template={{index .spec.template.metadata.annotations "headrace.io/installed-as"}}' 2>/dev/null) || installed=''

# Flink's own account comes with k8s-deploy/flink, and is not the chart's.
by_helm() {
  if [ "$installed" = "$sign" ]; then say 'the operator is there, as asked for'; return; fi
  local values=$scratch/values.yaml
  {
    printf 'watchNamespaces: [%s]\n' "$(IFS=,; echo "${watched[*]}")"
    printf 'image: {repository: "%s", tag: "%s"}\n' "$registry" "$version"
    printf 'webhook: {create: %s}\n' "$([ "$webhook" = yes ] && echo true || echo false)"
    printf 'jobServiceAccount: {create: false}\nrbac: {jobRole: {create: false}, jobRoleBinding: {create: false}}\n'
    printf 'operatorPod: {annotations: {headrace.io/installed-as: "%s"}}\n' "$sign"
  } >"$values"
  helm upgrade --install flink-kubernetes-operator "$chart" --namespace "$namespace" --skip-crds --values "$values" \
    ${context:+--kube-context "$context"} --wait --timeout "${timeout}s" || stop 'Helm could not install the operator: see above'
}

filled() {
  sed -e "s#OPERATOR_NAMESPACE\$#$namespace#" -e "s#OPERATOR_IMAGE\$#$registry:$version#" -e "s#INSTALLED_AS\$#\"$sign\"#" -e "s#WATCHED_NAMESPACE\$#${2:-}#" "$scripts/flink-operator/$1"
}

everywhere() { filled rights.yaml | sed -e 's/^kind: Role/kind: ClusterRole/' -e 's/^  kind: Role$/  kind: ClusterRole/' -e '/^  namespace: $/d'; }

by_manifests() {
  local conf=$scratch/conf file
  mkdir "$conf"
  cp "$chart/conf/flink-conf.yaml" "$chart/conf/log4j-operator.properties" "$chart/conf/log4j-console.properties" "$conf/"
  {
    printf '\nkubernetes.operator.reconcile.interval: 15 s\nkubernetes.operator.observer.progress-check.interval: 5 s\n'
    printf 'kubernetes.operator.health.probe.enabled: true\nkubernetes.operator.health.probe.port: 8085\n'
    [ ${#watched[@]} = 0 ] || printf 'kubernetes.operator.watched.namespaces: %s\n' "$watch"
  } >>"$conf/flink-conf.yaml"
  file=$scratch/all.yaml
  {
    kube create configmap flink-operator-config --namespace "$namespace" --from-file "$conf" --dry-run=client --output yaml
    printf -- '---\n'
    filled operator.yaml
    for each in "${watched[@]}"; do printf -- '---\n'; filled rights.yaml "$each"; done
    [ ${#watched[@]} -gt 0 ] || { printf -- '---\n'; everywhere; }
  } >"$file"
  kube apply --validate=strict --dry-run=server --filename "$file" >/dev/null || stop 'the cluster refuses the operator'\''s manifests, and the operator was not touched: see above'
  kube apply --validate=strict --filename "$file"
}

"by_$by"
rolled_out "$namespace" flink-kubernetes-operator

# ---- verify

check_served() {
  local served
  served=$(kube get --raw /apis/flink.apache.org/v1beta1) || stop 'the cluster does not serve flink.apache.org/v1beta1'
  for each in flinkdeployments flinkstatesnapshots; do
    [[ $served == *"\"$each\""* ]] || stop "the cluster does not serve $each"
  done
}
check_served
say "the Flink operator $version is there, and watches $watch. To check:"
say "  kubectl get deployment flink-kubernetes-operator -n $namespace"
say "  kubectl api-resources --api-group flink.apache.org"
