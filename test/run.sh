#!/usr/bin/env bash
# Runs the tests of all modules of this repository, or of the folders that are named ("pkg/ports", "cluster/pools" or
# "cluster" of the tests), and prints at the end what each package took. `make test` calls it.
#
#   GO=go  PARALLEL=3  REPEAT=1  LIMIT=30m  test/run.sh [FOLDER...]
#
# With COVER=1 it prints the coverage of each product package as well: by tests beside the code, by tests of other modules, and
# by the programs that these start, together.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
go=${GO:-go}
out=$root/bin/test
rm -rf "$out"
mkdir -p "$out"

declare -A patterns=(["."]="" ["test"]="" ["test/repo/release"]="")
if [ $# -eq 0 ]; then
	for module in "${!patterns[@]}"; do patterns[$module]=./...; done
	patterns["test"]="./cluster/... ./upstream/... ./..." # what takes long begins first: nothing long is left for the end
fi
for folder in "$@"; do
	folder=${folder%/}
	case $folder in
	repo/release | test/repo/release) patterns["test/repo/release"]=./... ;;
	test) patterns["test"]=./... ;;
	test/*) patterns["test"]+=" ./${folder#test/}/..." ;;
	*) if [ -d "test/$folder" ]; then patterns["test"]+=" ./$folder/..."; else patterns["."]+=" ./$folder/..."; fi ;;
	esac
done

gotestsum=$($go tool -n -modfile="$root/tools/go.mod" gotestsum)
args=()
if [ -n "${COVER:-}" ]; then
	mkdir "$out/cover"
	export GOFLAGS="${GOFLAGS:-} -cover -coverpkg=github.com/portcullis-k8s/portcullis/..." GOCOVERDIR=$out/cover
	args=(-args "-test.gocoverdir=$out/cover")
fi

# The tests of the root module use the processor, most of the others wait for what they have started: several of these run
# side by side. go vet is a part of `make lint`, and nobody debugs these programs.
status=0
run() {
	local module=$1 parallel=$2
	[ -n "${patterns[$module]}" ] || return 0
	# shellcheck disable=SC2086 # the patterns are words
	(cd "$module" && "$gotestsum" --format pkgname --jsonfile-timing-events "$out/${module//\//-}.json" -- \
		-vet=off "-ldflags=-s -w" "-count=${REPEAT:-1}" "-timeout=${LIMIT:-30m}" "-p=$parallel" ${patterns[$module]} "${args[@]}") || status=1
}
run . 2
run test/repo/release 2
run test "${PARALLEL:-3}"

echo
if [ -n "${COVER:-}" ]; then
	$go tool covdata percent -i="$out/cover" | grep -v /portcullis/test/ | tee "$out/coverage"
	unset GOFLAGS
fi
(cd test && $go run ./cmd/times "$out"/*.json) | tee "$out/summary" || status=1
exit $status
