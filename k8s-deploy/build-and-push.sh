#!/usr/bin/env bash
# Builds the images, pushes them, and gives the namespaces the right to pull them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

registry='' tag='' builder='' what=both launcher=no push=yes namespaces='' user='' password_file='' build_args=()
flink_version=2.2.1

about() {
  cat <<'EOT'
Builds the service image and the Flink image, pushes them to a registry, and makes or renews the Secret headrace-registry
in each namespace that pulls from it.

usage: build-and-push.sh --registry REGISTRY --tag TAG [options]
  --registry REGISTRY      where to: registry.cn-hangzhou.aliyuncs.com/NAMESPACE (Aliyun's ACR), ghcr.io/ORGANISATION …
  --tag TAG                of the service image, REGISTRY/headrace:TAG; the Flink image is REGISTRY/headrace-flink:2.2.1-TAG
  --flink-version VERSION  default: 2.2.1
  --only service|flink     one of the two
  --launcher               the launcher of native mode too, REGISTRY/headrace-launcher:TAG: the service image of this tag
                           with Flink in it
  --builder PROGRAM        docker, podman or nerdctl; default: the first of them that is here
  --build-arg NAME=VALUE   more than once. Behind a mirror: PYTHON_IMAGE (with its tag) and PIP_INDEX_URL of the service
                           and the Flink image; FLINK_IMAGE (without a tag) of the Flink image and the launcher
  --no-push                only build
  --namespaces NAMES       where to make the pull Secret, with commas: headrace,flink-jobs; default: nowhere
  --user NAME              the registry's user, with --password-file; default: the login that the builder has
  --password-file FILE     its password, in a file's first line
  --kubeconfig FILE, --context NAME   as of deploy-all.sh; needed with --namespaces alone
EOT
}

while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) about; exit 0 ;;
    --no-push) push=no; shift; continue ;;
    --launcher) launcher=yes; shift; continue ;;
    --registry | --tag | --flink-version | --only | --builder | --build-arg | --namespaces | --user | --password-file | --kubeconfig | --context) ;;
    *) about >&2; stop "there is no option $1" ;;
  esac
  [ $# -gt 1 ] && [ -n "$2" ] || stop "$1 needs a value"
  case $1 in
    --registry) registry=${2%/} ;;
    --tag) tag=$2 ;;
    --flink-version) flink_version=$2 ;;
    --only) what=$2 ;;
    --builder) builder=$2 ;;
    --build-arg) build_args+=(--build-arg "$2") ;;
    --namespaces) namespaces=$2 ;;
    --user) user=$2 ;;
    --password-file) password_file=$2 ;;
    --kubeconfig) kubeconfig=$2 ;;
    --context) context=$2 ;;
  esac
  shift 2
done

# ---- what can be known beforehand

[ -n "$registry" ] || stop 'say --registry, for instance registry.cn-hangzhou.aliyuncs.com/NAMESPACE'
[[ $registry != *://* ]] || stop "--registry is without ${registry%%://*}://"
[[ $registry =~ ^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$ ]] || stop "--registry $registry is none: HOST/PATH, in small letters"
[[ $tag =~ ^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$ ]] || stop "say --tag; it has letters, digits, dots and dashes: ${tag:-nothing} has not"
[[ $what =~ ^(both|service|flink)$ ]] || stop "--only is service or flink, not $what"
[[ $flink_version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || stop "--flink-version is like 2.2.1, not $flink_version"
if [ -n "$user$password_file" ]; then
  [ -n "$user" ] && [ -n "$password_file" ] || stop '--user and --password-file go together'
  [ -r "$password_file" ] || stop "--password-file $password_file cannot be read"
fi
host=${registry%%/*}
for each in $builder docker podman nerdctl; do
  if command -v "$each" >/dev/null; then builder=$each; break; fi
  [ -z "$builder" ] || stop "there is no $builder on the PATH"
done
[ -n "$builder" ] || stop 'there is no docker, podman or nerdctl on the PATH to build with'
why=$("$builder" info 2>&1 >/dev/null) || stop "$builder cannot build here: $(last_line "$why")"
if [ -n "$namespaces" ]; then
  find_kubeconfig
  IFS=, read -ra names <<<"$namespaces"
  for each in "${names[@]}"; do
    kube get namespace "$each" >/dev/null 2>&1 || stop "there is no namespace $each: kubectl apply -k makes ours, deploy-all.sh too"
  done
fi

# The login as a Secret has it: what was given, else what the builder keeps. Nothing of it is an argument of a program.
login() {
  local auth file=${DOCKER_CONFIG:-${HOME:-/root}/.docker}/config.json
  if [ -n "$user" ]; then
    auth=$(printf '%s:%s' "$user" "$(head -n 1 "$password_file")" | base64 | tr -d '\n')
  else
    [ "$builder" != podman ] || file=${REGISTRY_AUTH_FILE:-${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/containers/auth.json}
    [ -r "$file" ] || stop "$builder has no login for $host: $builder login $host, or say --user and --password-file"
    auth=$(tr -d '\n' <"$file" | sed -n "s#.*\"$host\"[[:space:]]*:[[:space:]]*{[^}]*\"auth\"[[:space:]]*:[[:space:]]*\"\([^\"]*\)\".*#\1#p")
    [ -n "$auth" ] || stop "$file has no password for $host (a program may keep it): say --user and --password-file"
  fi
  printf '{"auths": {"%s": {"auth": "%s"}}}' "$host" "$auth"
}

[ -z "$namespaces" ] || pull=$(login) || exit 1
if [ "$push" = yes ] && [ -n "$user" ]; then
  head -n 1 "$password_file" | "$builder" login --username "$user" --password-stdin "$host" >/dev/null \
    || stop "$host refuses $user: with Aliyun's ACR the password is the one of the registry, set in its console"
fi

# ---- build, push, allow to pull

root=$(dirname "$here")
images=()
if [ "$what" != flink ]; then
  "$builder" build --platform linux/amd64 "${build_args[@]}" --tag "$registry/headrace:$tag" "$root"
  images+=("$registry/headrace:$tag")
fi
if [ "$what" != service ]; then
  "$builder" build --platform linux/amd64 "${build_args[@]}" --build-arg "FLINK_VERSION=$flink_version" --tag "$registry/headrace-flink:$flink_version-$tag" "$root/flink_app"
  images+=("$registry/headrace-flink:$flink_version-$tag")
fi
if [ "$launcher" = yes ]; then
  "$builder" build --platform linux/amd64 "${build_args[@]}" --build-arg "SERVICE_IMAGE=$registry/headrace:$tag" --build-arg "FLINK_VERSION=$flink_version" \
    --file "$root/Dockerfile.launcher" --tag "$registry/headrace-launcher:$tag" "$root"
  images+=("$registry/headrace-launcher:$tag")
fi
if [ "$push" = yes ]; then
  for each in "${images[@]}"; do
    "$builder" push "$each" || stop "$host did not take $each: log in ($builder login $host), and see that the repository exists and that you may push there"
  done
fi
if [ -n "$namespaces" ]; then
  for each in "${names[@]}"; do
    printf '{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": {"name": "headrace-registry", "namespace": "%s"}, "data": {".dockerconfigjson": "%s"}}' \
      "$each" "$(printf '%s' "$pull" | base64 | tr -d '\n')" | kube apply --server-side --force-conflicts --field-manager headrace-deploy --filename -
  done
fi
say "built: ${images[*]}"
[ "$what" = flink ] || say "roll out: deploy-all.sh --image $registry/headrace:$tag"
[ "$what" = service ] || say "jobs use HEADRACE_FLINK_IMAGE=$registry/headrace-flink:$flink_version-$tag, a setting of the overlay"
