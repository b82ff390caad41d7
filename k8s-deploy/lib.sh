# Shared by the scripts beside it, which source it: options, which cluster, what is missing there, apply, and wait.
# Nothing is changed before everything that can be known beforehand has been looked at.
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH
overlay=k3s flink='' image='' kubeconfig='' context='' timeout=300
export make_secrets=no # deploy-all.sh reads it
rendered='' scratch=''

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
stop() { say "$@"; exit 1; }

options_help='  --overlay NAME       dev, k3s (default), production, or a folder of yours in k8s-deploy/overlays
  --flink NAME         the kustomization in k8s-deploy/flink of the namespace that jobs run in (default: the overlay'"'"'s)
  --image IMAGE:TAG    the service image; default: the overlay'"'"'s own
  --tag TAG            the same image under another tag
  --kubeconfig FILE    default: KUBECONFIG, else a kubeconfig in k8s-deploy/*.yaml, else /etc/rancher/k3s/k3s.yaml,
                       else ~/.kube/config
  --context NAME       one of its contexts; default: the present one
  --timeout SECONDS    how long a rollout may take (default: 300)'

# usage WHAT: prints what a script does and its options.
usage() {
  printf '%s\n\nusage: %s [options]\n%s\n' "$1" "$(basename "$0")" "$options_help"
}

# read_options ABOUT "$@": fills in the variables above.
read_options() {
  local about=$1 tag=''
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      -h | --help) usage "$about"; exit 0 ;;
      --make-secrets) make_secrets=yes; shift; continue ;;
      --overlay | --flink | --image | --tag | --kubeconfig | --context | --timeout) ;;
      *) usage "$about" >&2; stop "there is no option $1" ;;
    esac
    [ $# -gt 1 ] && [ -n "$2" ] || stop "$1 needs a value"
    case $1 in
      --overlay) overlay=$2 ;;
      --flink) flink=$2 ;;
      --image) image=$2 ;;
      --tag) tag=$2 ;;
      --kubeconfig) kubeconfig=$2 ;;
      --context) context=$2 ;;
      --timeout) timeout=$2 ;;
    esac
    shift 2
  done
  [[ $timeout =~ ^[1-9][0-9]*$ ]] || stop "--timeout is a number of seconds, not $timeout"
  [ -f "$here/overlays/$overlay/kustomization.yaml" ] || stop "there is no overlay $overlay: $(names_in overlays)"
  [ -z "$flink" ] || [ -f "$here/flink/$flink/kustomization.yaml" ] \
    || stop "there is no Flink namespace $flink: $(names_in flink)"
  tag_image "$tag"
}

names_in() {
  local folders=("$here/$1"/*/kustomization.yaml)
  folders=("${folders[@]%/kustomization.yaml}")
  printf 'there are %s' "$(printf '%s\n' "${folders[@]##*/}" | grep -v '^base$' | paste -sd ' ')"
}

# An image without a tag would be whatever was pushed last, and a pod that starts again may get another.
tag_image() {
  if [ -n "$1" ] && [ -n "$image" ]; then
    [[ ${image##*/} != *:* ]] || stop "--image $image has a tag already: leave --tag out"
    image=$image:$1
  elif [ -n "$1" ]; then
    image=$(overlays_image) || exit 1
    [ -n "$image" ] || stop "overlay $overlay has no image whose name ends in /headrace, so there is none to put --tag $1 on: say --image IMAGE:$1"
    # A digest goes, and a tag; the port of a registry stays.
    image=${image%@*}
    [[ ${image##*/} != *:* ]] || image=${image%:*}
    image=$image:$1
  fi
  [ -z "$image" ] || [[ ${image##*/} == *[:@]* ]] || stop "--image $image has no tag: say --tag, or $image:TAG"
}

overlays_image() {
  local objects
  need kubectl
  objects=$(kubectl kustomize "$here/overlays/$overlay") || stop "overlay $overlay cannot be built: see above"
  sed -En 's#^ *image: ((.*/)?headrace([:@].*)?)$#\1#p' <<<"$objects" | head -n 1
}

need() {
  command -v "$1" >/dev/null || stop "there is no $1 on the PATH${2:+: $2}"
}

# ---- which cluster

find_kubeconfig() {
  need kubectl 'https://kubernetes.io/docs/tasks/tools'
  local found
  if [ -n "$kubeconfig" ]; then
    [ -f "$kubeconfig" ] || stop "--kubeconfig $kubeconfig: there is no such file"
  elif [ -n "${KUBECONFIG:-}" ]; then
    kubeconfig=$KUBECONFIG
    [[ $kubeconfig == *:* ]] || [ -f "$kubeconfig" ] || stop "KUBECONFIG names $kubeconfig, and there is no such file"
  elif found=$(kubeconfigs_here) && [ -n "$found" ]; then
    [ "$(wc -l <<<"$found")" = 1 ] || stop "k8s-deploy has several kubeconfigs, so say --kubeconfig: $(paste -sd ' ' <<<"$found")"
    kubeconfig=$found
  elif [ -e /etc/rancher/k3s/k3s.yaml ]; then
    kubeconfig=/etc/rancher/k3s/k3s.yaml
  elif [ -f "${HOME:-/root}/.kube/config" ]; then
    kubeconfig=$HOME/.kube/config
  else
    stop "there is no kubeconfig: say --kubeconfig FILE, set KUBECONFIG, or put one into $here/ (with K3s it is /etc/rancher/k3s/k3s.yaml on its machine)"
  fi
  [[ $kubeconfig == *:* ]] || [ -r "$kubeconfig" ] \
    || stop "$kubeconfig cannot be read by $(id -un): run this with sudo, or give yourself a copy of it (sudo install -m 600 -o $(id -un) $kubeconfig ~/.kube/config)"
  export KUBECONFIG=$kubeconfig
  check_server
}

kubeconfigs_here() {
  local file
  for file in "$here"/*.yaml "$here"/*.yml; do
    if [ -f "$file" ] && grep -q '^kind: *Config *$' "$file" && grep -q '^clusters:' "$file"; then echo "$file"; fi
  done
}

kube() {
  kubectl ${context:+--context "$context"} --request-timeout=30s "$@"
}

check_server() {
  local server host port why
  why=$(kube config view --minify -o 'jsonpath={.clusters[0].cluster.server}' 2>&1) \
    || stop "$kubeconfig cannot be used: $(last_line "$why")"
  server=$why
  [ -n "$server" ] || stop "$kubeconfig names no server for its context"
  host=${server#*://} && host=${host%%/*} && port=${host##*:} && host=${host%:*}
  [[ $port =~ ^[0-9]+$ ]] || { host=${server#*://} host=${host%%/*} port=443; }
  case $host in
    127.* | localhost | '[::1]' | 0.0.0.0)
      serves_here "$host" "$port" || stop "$kubeconfig has the server $server, which is this machine itself, and nothing listens there.
It looks like K3s's own file, copied as it is from another machine. Put that machine's address into it:
  sed -i 's#$host:$port#ADDRESS:$port#' $kubeconfig
Where the certificate is not made for that address, install K3s with --tls-san ADDRESS." ;;
  esac
  why=$(kube get --raw /version 2>&1) && return
  case $why in
    *Unauthorized* | *'must be logged in'*) stop "$server does not know who $kubeconfig says you are: get a new kubeconfig ($(last_line "$why"))" ;;
    *x509* | *certificate*) stop "$server shows a certificate that $kubeconfig does not trust; with K3s: copy its k3s.yaml again, or install it with --tls-san ($(last_line "$why"))" ;;
    *) stop "$server does not answer: is it up, and may this machine reach it? ($(last_line "$why"))" ;;
  esac
}

serves_here() {
  local host=${1#[}
  timeout 3 bash -c "exec 3<>/dev/tcp/${host%]}/$2" 2>/dev/null
}

last_line() { tail -n 1 <<<"$1"; }

# ---- what is to be there

# render: the overlay's objects with the image, in a file; the namespaces that it names.
render() {
  # Beside the overlays, since kustomize follows no path from elsewhere.
  scratch=$(mktemp -d "$here/.deploy-XXXXXX")
  trap 'rm -rf "$scratch"' EXIT
  rendered=$scratch/rendered.yaml
  {
    printf 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../overlays/%s]\n' "$overlay"
    [ -z "$image" ] || image_patches
  } >"$scratch/kustomization.yaml"
  kubectl kustomize "$scratch" >"$rendered" || stop "overlay $overlay cannot be built: see above"
  namespace=$(sed -n '/^kind: Namespace$/,/^---$/s/^  name: //p' "$rendered" | head -n 1)
  jobs_namespace=$(sed -n 's/^  HEADRACE_NAMESPACE: //p' "$rendered" | head -n 1)
  [ -n "$namespace" ] || stop "overlay $overlay has no Namespace"
  [ -n "$jobs_namespace" ] || stop "overlay $overlay sets no HEADRACE_NAMESPACE"
}

image_patches() {
  printf 'patches:\n'
  local kind
  for kind in Deployment Job; do
    printf -- '  - target: {kind: %s, labelSelector: "app.kubernetes.io/part-of=headrace,app.kubernetes.io/component!=launcher"}\n' "$kind"
    printf '    patch: |\n      - {op: replace, path: /spec/template/spec/containers/0/image, value: "%s"}\n' "$image"
  done
  # Of the same release, and with Flink in it: REGISTRY/headrace:TAG has its REGISTRY/headrace-launcher:TAG beside it. One
  # that is named by its digest says nothing of the other, which stays the overlay's.
  if [[ $image != *@* ]]; then
    printf -- '  - target: {kind: Deployment, labelSelector: app.kubernetes.io/component=launcher}\n'
    printf '    patch: |\n      - {op: replace, path: /spec/template/spec/containers/0/image, value: "%s-launcher:%s"}\n' \
      "${image%:*}" "${image##*:}"
  fi
}

has_launcher() { grep -q 'app.kubernetes.io/component: launcher' "$rendered"; }

# has_runtime NAME: whether the overlay's processes have it. The operator alone is the setting's default.
has_runtime() {
  local runtimes
  runtimes=$(sed -n 's/^  HEADRACE_RUNTIMES: //p' "$rendered" | head -n 1)
  [[ ,${runtimes:-operator}, == *,"$1",* ]]
}

# What the overlay's runtimes take of the cluster, and of the overlay.
check_runtimes() {
  if has_runtime native && ! has_launcher; then
    stop "overlay $overlay has native in HEADRACE_RUNTIMES and no launcher, so no job of it could start: put ../../components/native among its components"
  elif has_launcher && ! has_runtime native; then
    stop "overlay $overlay has a launcher and not native in HEADRACE_RUNTIMES, so no job could ask for it: set HEADRACE_RUNTIMES=operator,native, or native alone"
  fi
  ! has_runtime operator || check_crds
}

check_crds() {
  local served
  # One that was made a moment ago is served a moment later.
  if kube get crd flinkdeployments.flink.apache.org >/dev/null 2>&1; then
    kube wait --for condition=Established --timeout 15s crd flinkdeployments.flink.apache.org >/dev/null || true
  fi
  served=$(kube get --raw /apis/flink.apache.org/v1beta1 2>/dev/null) || served=''
  [[ $served == *'"flinkdeployments"'* ]] || stop "the cluster has no FlinkDeployment CRD, so no job could run: scripts/install_flink_operator.sh --watch $jobs_namespace, or native mode alone ($here/README.md)"
  [[ $served == *'"flinkstatesnapshots"'* ]] || stop "the cluster's Flink operator is older than 1.10 and has no FlinkStateSnapshot CRD: scripts/install_flink_operator.sh --watch $jobs_namespace brings a newer one"
}

check_jobs_namespace() {
  kube get rolebinding headrace-worker --namespace "$jobs_namespace" >/dev/null 2>&1 || stop "namespace $jobs_namespace is not prepared for jobs, or you may not look there: kubectl apply -k $here/flink/$jobs_namespace"
  ! has_runtime native || kube get rolebinding headrace-launcher --namespace "$jobs_namespace" >/dev/null 2>&1 \
    || stop "namespace $jobs_namespace has no rights for native mode: put ../../components/native-jobs among the components of $here/flink/$jobs_namespace, and kubectl apply -k it"
}

# check_secrets NAME/KEY...
check_secrets() {
  local each missing=()
  for each in "$@"; do
    has_secret "${each%/*}" "${each#*/}" || missing+=("$each")
  done
  [ ${#missing[@]} = 0 ] || stop "namespace $namespace lacks the Secret and key ${missing[*]}: $here/make-secrets.sh --overlay $overlay makes what is missing"
}

has_secret() {
  [ -n "$(kube get secret "$1" --namespace "$namespace" --output "go-template={{if index .data \"$2\"}}yes{{end}}" 2>/dev/null)" ]
}

# ---- apply and wait

has_namespace() { kube get namespace "$namespace" >/dev/null 2>&1; }

changed='' # what this run has changed so far, for who reads that the cluster refused the rest
has_changed() { changed+="${changed:+, }$1"; }

# would_apply COMPONENTS: whether the server takes those of the rendered objects. All that a script is to apply is asked
# for before the first of it is changed. The migration is none of it: the Job of the last one would have to go first.
would_apply() { taken_by_server --filename "$rendered" --selector "app.kubernetes.io/component in ($1)"; }

# taken_by_server WHAT: the options that name it.
taken_by_server() {
  local why
  why=$(kube apply --dry-run=server --validate=strict "$@" 2>&1 >/dev/null) \
    || stop "the cluster refuses it, and nothing was changed${changed:+ but $changed}: $why"
}

# apply COMPONENTS: those of the rendered objects.
apply() {
  kube apply --validate=strict --filename "$rendered" --selector "app.kubernetes.io/component in ($1)"
}

# prepare COMPONENTS NAMES...: what a script needs before its own processes: the namespace, its secrets, what is shared,
# the schema.
prepare() {
  has_namespace || stop "there is no namespace $namespace: deploy-all.sh makes it, or kubectl apply -f $here/overlays/$overlay/namespace.yaml"
  check_secrets "${@:2}"
  would_apply "shared, $1"
  apply shared
  migrate
}

migrate() {
  local state in_vain=0 until=$((SECONDS + timeout)) pods=app.kubernetes.io/component=migrate
  kube delete job migrate --namespace "$namespace" --ignore-not-found --wait >/dev/null
  has_changed 'what several processes share'
  would_apply migrate
  apply migrate
  while [ $SECONDS -lt $until ]; do
    state=$(kube get job migrate --namespace "$namespace" --output 'jsonpath={range .status.conditions[?(@.status=="True")]}{.type} {end}')
    case $state in
      *Complete*) return ;;
      *Failed*) fail_with_pods "$pods" 'the migration failed, and no process was changed' ;;
    esac
    in_vain=$(in_vain_for "$in_vain" "$pods")
    [ "$in_vain" -lt 3 ] || fail_with_pods "$pods" 'the migration cannot start'
    sleep 2
  done
  fail_with_pods "$pods" "the migration did not end within $timeout s"
}

# await NAMES...: until each Deployment has what was asked for, or cannot.
await() {
  local name newest pods in_vain until again
  for name in "$@"; do
    until=$((SECONDS + timeout)) in_vain=0 again=yes pods=app.kubernetes.io/component=$name
    until kube rollout status "deployment/$name" --namespace "$namespace" --timeout=3s >/dev/null 2>&1; do
      newest=$(newest_of "$name")
      if [ -n "$newest" ]; then
        pods=app.kubernetes.io/component=$name,pod-template-hash=$newest
        [ $again = no ] || try_again "$pods"
        again=no
        in_vain=$(in_vain_for "$in_vain" "$pods")
      fi
      [ "$in_vain" -lt 3 ] || fail_with_pods "$pods" "$name cannot start"
      [ $SECONDS -lt $until ] || fail_with_pods "$pods" "$name was not rolled out within $timeout s"
      sleep 2
    done
    say "$name is rolled out in $namespace"
  done
}

# newest_of NAME: the pod-template-hash of what a Deployment is to have now; nothing before its controller has seen that.
# Pods of a release that failed stay beside the new one's until these are Ready, and say nothing of it.
newest_of() {
  local revision
  revision=$(kube get deployment "$1" --namespace "$namespace" --output 'go-template={{with .status.observedGeneration}}{{if eq . $.metadata.generation}}{{index $.metadata.annotations "deployment.kubernetes.io/revision"}}{{end}}{{end}}' 2>/dev/null) || return 0
  [ -z "$revision" ] || kube get replicasets --namespace "$namespace" --selector "app.kubernetes.io/component=$1" \
    --output "go-template={{range .items}}{{if eq (index .metadata.annotations \"deployment.kubernetes.io/revision\") \"$revision\"}}{{index .metadata.labels \"pod-template-hash\"}}{{end}}{{end}}" 2>/dev/null || true
}

# pods_of SELECTOR
pods_of() {
  kube get pods --namespace "$namespace" --selector "$1" "${@:2}"
}

# shellcheck disable=SC2016 # the variables are the template's
# waiting SELECTOR: each container that waits: why, how often it was started again, and its pod.
waiting() {
  pods_of "$1" --output 'go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{$pod := .metadata.name}}{{range .status.containerStatuses}}{{if .state.waiting}}{{.state.waiting.reason}} {{.restartCount}} {{$pod}}{{"\n"}}{{end}}{{end}}{{end}}{{end}}' 2>/dev/null
}

# A pod of an earlier run with the same template may have minutes to wait until its next try, and what it lacked may be
# there now. One that replaces it tries at once.
try_again() {
  local pod
  for pod in $(waiting "$1" | sed -En 's/^(.*BackOff|CreateContainerConfigError) [0-9]+ //p'); do
    kube delete pod "$pod" --namespace "$namespace" --ignore-not-found --wait=false >/dev/null
  done
}

# in_vain_for COUNT SELECTOR: how many looks in a row found what no waiting mends, or what has been tried three times.
in_vain_for() {
  if waiting "$2" | grep -Eq '^(ImagePullBackOff|InvalidImageName|ErrImageNeverPull|CreateContainerConfigError) |^CrashLoopBackOff ([2-9]|[0-9]{2,}) '; then
    echo $(($1 + 1))
  else
    echo 0
  fi
}

# shellcheck disable=SC2016 # the variables are the template's
# fail_with_pods SELECTOR MESSAGE: the pods' own words: why a container waits, why a pod has no node, and the end of the log of one that crashed.
fail_with_pods() {
  say "$2:"
  pods_of "$1" --output 'go-template={{range .items}}{{$pod := .metadata.name}}{{range .status.conditions}}{{if and (eq .type "PodScheduled") (ne .status "True")}}  pod {{$pod}}: {{.reason}}: {{.message}}{{"\n"}}{{end}}{{end}}{{range .status.containerStatuses}}{{if .state.waiting}}  pod {{$pod}}: {{.state.waiting.reason}}: {{.state.waiting.message}}{{"\n"}}{{end}}{{if .state.terminated}}  pod {{$pod}}: {{.state.terminated.reason}}, exit code {{.state.terminated.exitCode}}{{"\n"}}{{end}}{{end}}{{end}}' >&2 || true
  local pod
  for pod in $(pods_of "$1" --output 'go-template={{range .items}}{{$pod := .metadata.name}}{{range .status.containerStatuses}}{{if or .restartCount .state.terminated}}{{$pod}} {{end}}{{end}}{{end}}' 2>/dev/null); do
    printf '  the end of the log of %s:\n' "$pod" >&2
    { kube logs "$pod" --namespace "$namespace" --previous --tail 15 2>/dev/null || kube logs "$pod" --namespace "$namespace" --tail 15 2>/dev/null; } | sed 's/^/    /' >&2
  done
  exit 1
}
