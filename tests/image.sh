#!/bin/sh
# The image of deploy/Dockerfile, built by buildah without a daemon or a registry: its base is a bare Debian 12 made by
# debootstrap. It is small, runs as its own user with a read-only root, and keeps what it acknowledged in its volume.
# Needs root, buildah and debootstrap. Usage: image.sh DIR [BIN]      (DIR: where images lie meanwhile; taken away again.
# BIN: programs built on a Debian 12 already, which spares a quarter of an hour: then the line that builds them is not tried)
set -eu
dir=$1 bin=${2:-}
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tests/bare.sh"
[ "$(id -u)" = 0 ] || { echo "skipped: a chroot takes root"; exit 0; }
command -v buildah >/dev/null || { echo "skipped: there is no buildah (apt install buildah)"; exit 0; }
fail() { echo "failed: $1" >&2; exit 1; }
mkdir -p "$dir"
dir=$(realpath "$dir")
root=$dir/root pid=
b() { buildah --root "$dir/storage" --runroot "$dir/run" --storage-driver vfs "$@"; }
clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    b umount --all >/dev/null 2>&1 || true
    rm -rf "$root" "$dir/storage" "$dir/run" "$dir/volume"
}
trap clean EXIT

bare_debian "$root" "$dir/debootstrap.log" || fail "debootstrap"
base=$(b from scratch)
b copy -q "$base" "$root" / >/dev/null
for name in debian:12 debian:12-slim; do b commit -q --format docker "$base" "localhost/$name" >/dev/null; done
base_bytes=$(du -sb "$root" | cut -f1)
rm -rf "$root"

# What git knows of the tree, as `docker build` would send it: nothing that was built here.
mkdir -p "$dir/context"
(cd "$top" && git ls-files -z | tar --null -T - -cf -) | tar -xf - -C "$dir/context"
if [ -n "$bin" ]; then
    mkdir "$dir/context/prebuilt"
    cp "$bin"/* "$dir/context/prebuilt/"
    strip --strip-unneeded "$dir"/context/prebuilt/*
    sed -i 's|^RUN make .*|COPY prebuilt build/release/bin|' "$dir/context/deploy/Dockerfile"
    rm -f "$dir/context/.dockerignore"
fi
b build -q --pull=never --layers=false --isolation chroot --format docker -t koalemos -f "$dir/context/deploy/Dockerfile" \
    "$dir/context" >"$dir/build.log" 2>&1 || { tail -n 30 "$dir/build.log"; fail "build"; }
rm -rf "$dir/context"

c=$(b from --pull=never koalemos)
at=$(b mount "$c")
more=$((($(du -sb "$at" | cut -f1) - base_bytes) / 1048576))
[ "$more" -lt 80 ] || fail "the image has $more MiB more than its base"
config() { b inspect --type image --format "{{.Docker.Config.$1}}" koalemos; }
[ "$(config User)" = 10001:10001 ] || fail "its user is $(config User)"
[ "$(config Entrypoint)" = "[/usr/bin/koalemos]" ] || fail "its entrypoint is $(config Entrypoint)"
for tool in gcc make git cc; do [ ! -e "$at/usr/bin/$tool" ] || fail "$tool is in it"; done

# Its root read-only but for the volume, as its user, without any capability.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
mkdir -p "$dir/volume"
chown 10001:10001 "$dir/volume"
start() {
    unshare -m sh -c "mount --bind '$at' '$at' && mount --bind '$dir/volume' '$at/var/lib/koalemos' && mount -o remount,bind,ro '$at' &&
        exec chroot '$at' setpriv --reuid 10001 --regid 10001 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs \
        /usr/bin/koalemos serve --listen=127.0.0.1:$port --data-dir=/var/lib/koalemos" >"$dir/serve.log" 2>&1 &
    pid=$!
    n=0
    until curl -fs "$url/-/ready" >/dev/null; do
        n=$((n + 1))
        [ $n -lt 100 ] || { cat "$dir/serve.log"; fail "not ready"; }
        sleep 0.2
    done
}
ask() { curl -fsG "$url/api/v1/query" --data-urlencode "query=$1"; }
start
echo 'image_test{from="image"} 42' | curl -fs --data-binary @- "$url/api/v1/import/prometheus" || fail "push"
ask image_test | grep -q '"42"' || fail "ask"
kill -9 "$pid"; wait "$pid" 2>/dev/null || true
start
ask image_test | grep -q '"42"' || fail "what was acknowledged is gone"
kill "$pid"; wait "$pid" || fail "it does not end well"
pid=
for program in doorman ingestor querier; do chroot "$at" "/usr/bin/$program" --version >/dev/null || fail "$program does not run"; done
echo "$more MiB beside its base; 1 passed, 0 failed"
