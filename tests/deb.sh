#!/bin/sh
# The Debian package in a bare Debian 12 made by debootstrap: it installs, runs as its own user, keeps what
# it acknowledged over a kill -9, goes on remove, and leaves nothing on purge. Needs root and debootstrap.
# Usage: deb.sh PACKAGE.deb DIR      (DIR: where the chroot is made and taken away again)
set -eu
deb=$(realpath "$1") dir=$2
. "$(dirname "$0")/bare.sh"
[ "$(id -u)" = 0 ] || { echo "skipped: a chroot takes root"; exit 0; }
root=$dir/root
fail() { echo "failed: $1" >&2; exit 1; }
pid=
clean() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    umount "$root/proc" 2>/dev/null || true
    rm -rf "$root"
}
trap clean EXIT

mkdir -p "$dir"
rm -rf "$root"
bare_debian "$root" "$dir/debootstrap.log" || fail "debootstrap"
mount -t proc proc "$root/proc"
cp "$deb" "$root/tmp/koalemos.deb"
in_root() { chroot "$root" env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
in_root apt-get update -qq
in_root apt-get install -y -qq --no-install-recommends /tmp/koalemos.deb >"$dir/install.log" 2>&1 || { tail "$dir/install.log"; fail "install"; }

for f in dashboards/cluster.json alerts.yaml nats/koalemos.conf; do [ -s "$root/usr/share/koalemos/$f" ] || fail "no /usr/share/koalemos/$f"; done

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
start() { # the unit's own command, as its user
    command=$(sed -n 's/^ExecStart=//p' "$root/lib/systemd/system/koalemos.service")
    # shellcheck disable=SC2086  # words are meant
    chroot "$root" setpriv --reuid koalemos --regid koalemos --clear-groups $command --listen=127.0.0.1:$port >"$dir/serve.log" 2>&1 &
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
echo 'deb_test{from="package"} 42' | curl -fs --data-binary @- "$url/api/v1/import/prometheus" || fail "push"
ask deb_test | grep -q '"42"' || fail "ask"
[ "$(stat -c %U "/proc/$pid" 2>/dev/null)" != root ] || fail "it runs as root"
kill -9 "$pid"; wait "$pid" 2>/dev/null || true
start
ask deb_test | grep -q '"42"' || fail "what was acknowledged is gone"
kill "$pid"; wait "$pid" || fail "it does not end well"
pid=

in_root apt-get remove -y -qq koalemos >/dev/null 2>&1 || fail "remove"
[ -d "$root/var/lib/koalemos" ] || fail "remove took the data"
[ ! -e "$root/usr/bin/koalemos" ] || fail "remove left the program"
in_root apt-get purge -y -qq koalemos >/dev/null 2>&1 || fail "purge"
for left in /var/lib/koalemos /etc/koalemos /etc/default/koalemos; do [ ! -e "$root$left" ] || fail "purge left $left"; done
echo "1 passed, 0 failed"
