#!/bin/sh
# Builds localcluster, and kubectl as a link to it. Usage: build.sh [OUTPUT], by default ../../bin/localcluster.
# The version that the components report is that of k8s.io/kubernetes in go.mod. The first build takes minutes.
set -eu

output=${1:-}
case $output in
'') ;;
/*) ;;
*) output=$PWD/$output ;;
esac
cd "$(dirname "$0")"
output=${output:-$PWD/../../bin/localcluster}

module() { go list -m -f "$1" k8s.io/kubernetes; }
version=$(module '{{.Version}}')
major=${version#v}
major=${major%%.*}
minor=${version#v*.}
minor=${minor%%.*}
date=$(module '{{with .Time}}{{.Format "2006-01-02T15:04:05Z07:00"}}{{end}}')
# The module proxy tells the commit of some versions only.
commit=$(module '{{with .Origin}}{{.Hash}}{{end}}')

flags='-s -w'
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
	for pair in "gitVersion=$version" "gitMajor=$major" "gitMinor=$minor" "gitTreeState=clean" \
		"gitCommit=${commit:-unknown}" "buildDate=${date:-1970-01-01T00:00:00Z}"; do
		flags="$flags -X $package.$pair"
	done
done

mkdir -p "$(dirname "$output")"
nice go build -p "${BUILD_PROCS:-2}" -ldflags "$flags" -o "$output" .
ln -sf "$(basename "$output")" "$(dirname "$output")/kubectl"
