#!/usr/bin/env bash
# Writes what a release installs by: config/install.yaml and config/chart, with the image by tag and digest.
#   .github/pin-image.sh v1.2.3 ghcr.io/portcullis-k8s/portcullis@sha256:… bin/release
# In the repository they have the tag alone, as the digest is known only when the image is built.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 image=$2 out=$3
fail() {
  echo "pin-image: $*" >&2
  exit 1
}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || fail "\"$version\" is not a version"
[[ $image =~ ^([a-z0-9./-]+)(:[A-Za-z0-9._-]+)?@(sha256:[0-9a-f]{64})$ ]] || fail "\"$image\" is not an image with a digest"
repository=${BASH_REMATCH[1]} digest=${BASH_REMATCH[3]}
mkdir -p "$out"
rm -rf "$out/chart"
cp -R config/chart "$out/chart"
sed "s|^\( *image: $repository:$version\)\$|\1@$digest|" config/install.yaml >"$out/install.yaml"
sed "s|^\( *portcullis.dev/image-digest:\) \"\" .*\$|\1 $digest|" config/chart/Chart.yaml >"$out/chart/Chart.yaml"
for file in install.yaml chart/Chart.yaml; do
  [ "$(grep -c "$digest" "$out/$file")" = 1 ] || fail "$file has no place for the digest of $repository:$version"
done
