#!/usr/bin/env bash
#
# Generates everything that is derived from the API types in pkg/apis:
#
#   pkg/apis/<group>/<version>/zz_generated.deepcopy.go
#   pkg/generated/{clientset,listers,informers}
#   config/crds/<group>/<api group>_<plural>.yaml
#
# hack/generate.sh          writes them into the tree
# hack/generate.sh --check  changes nothing; lists what differs and fails if
#                           anything does
#
# Both generate into a copy of the inputs, so a file whose source is gone
# disappears, and leftovers of an earlier run can't hide an error. The tools
# are pinned in hack/tools/go.mod.

set -euo pipefail

readonly root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
readonly module="github.com/cloudcore-io/cloudcore"
readonly generated="$module/pkg/generated"

# Groups under pkg/apis with generated code, and those of their versions that
# get a typed client. A version without client exists for its schema only.
readonly groups=(devices operations policy reliablesyncs rules)
readonly clients=(
  devices/v1beta1
  operations/v1alpha1
  operations/v1alpha2
  policy/v1alpha1
  reliablesyncs/v1alpha1
  rules/v1
)

check=false
case "${1:-}" in
  "") ;;
  --check) check=true ;;
  *)
    echo "usage: ${0##*/} [--check]" >&2
    exit 2
    ;;
esac

# tool prints the path of a pinned tool; the go command builds it once and
# keeps it in its cache.
tool() {
  go -C "$root/hack/tools" tool -n "$1"
}

# generate fills the tree in $1 (a copy of the inputs) with all outputs.
generate() {
  cd "$1"

  local packages=() inputs=() gv group
  for group in "${groups[@]}"; do
    packages+=("./pkg/apis/$group/...")
  done
  "$(tool deepcopy-gen)" --output-file zz_generated.deepcopy.go "${packages[@]}"

  for gv in "${clients[@]}"; do
    inputs+=("$module/pkg/apis/$gv")
  done
  "$(tool client-gen)" \
    --output-dir pkg/generated/clientset --output-pkg "$generated/clientset" \
    --clientset-name versioned --input-base "$module/pkg/apis" \
    --input "$(IFS=,; echo "${clients[*]}")"
  "$(tool lister-gen)" \
    --output-dir pkg/generated/listers --output-pkg "$generated/listers" \
    "${inputs[@]}"
  "$(tool informer-gen)" \
    --output-dir pkg/generated/informers --output-pkg "$generated/informers" \
    --versioned-clientset-package "$generated/clientset/versioned" \
    --listers-package "$generated/listers" \
    "${inputs[@]}"

  # Floating point fields occur only in the frozen devices v1alpha2.
  local paths=("${packages[@]/#/paths=}")
  "$(tool controller-gen)" \
    crd:allowDangerousTypes=true,generateEmbeddedObjectMeta=true \
    "${paths[@]}" output:crd:dir=crds
  "$(tool crdlistkeys)" crds/*.yaml
  for group in "${groups[@]}"; do
    mkdir -p "config/crds/$group"
    mv "crds/$group".*.yaml "config/crds/$group/"
  done
  rmdir crds # fails when a CRD belongs to no group of the list
}

# outputs lists the generated files of the tree in $1, relative to it.
outputs() {
  (
    cd "$1"
    find . \( -path './pkg/apis/*/zz_generated.deepcopy.go' \
      -o -path './pkg/generated/*' -o -path './config/crds/*/*.yaml' \) \
      -type f | LC_ALL=C sort
  )
}

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

mkdir -p "$scratch/pkg/apis"
cp "$root/go.mod" "$root/go.sum" "$scratch/"
for group in "${groups[@]}"; do
  cp -R "$root/pkg/apis/$group" "$scratch/pkg/apis/"
done
find "$scratch/pkg/apis" -name 'zz_generated.*' -delete

(generate "$scratch")

status=0
while read -r file; do
  if cmp -s "$root/$file" "$scratch/$file"; then
    continue
  fi
  status=1
  if $check; then
    diff -uN --label "committed/${file#./}" --label "generated/${file#./}" \
      <(cat "$root/$file" 2>/dev/null) <(cat "$scratch/$file" 2>/dev/null) || true
  elif [[ -e "$scratch/$file" ]]; then
    mkdir -p "$(dirname "$root/$file")"
    cp "$scratch/$file" "$root/$file"
    echo "wrote ${file#./}"
  else
    rm "$root/$file"
    echo "removed ${file#./}"
  fi
done < <({ outputs "$root"; outputs "$scratch"; } | LC_ALL=C sort -u)

if $check && [[ $status -ne 0 ]]; then
  echo "generated files are not up to date: run hack/generate.sh" >&2
  exit 1
fi
