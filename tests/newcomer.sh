#!/bin/sh
# The README and the documents as a new user tries them: in a bare Debian 12 made by debootstrap, with git, make and apt, the commands
# of the README's first minute, as they stand there, and then those of docs/. Needs root and debootstrap.
# Usage: newcomer.sh DIR [BUILD]     (DIR: where the chroot is made and taken away again. BUILD: a build folder of this very tree,
# on a Debian 12, which spares a quarter of an hour: then `make run` finds that all is built)
set -eu
dir=$1 build=${2:-}
top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tests/bare.sh"
[ "$(id -u)" = 0 ] || { echo "skipped: a chroot takes root"; exit 0; }
fail() { echo "failed: $1" >&2; exit 1; }
mkdir -p "$dir"
dir=$(realpath "$dir")
root=$dir/root pid=
clean() {
    [ -z "$pid" ] || /bin/kill -KILL -- "-$pid" 2>/dev/null || true
    umount "$root/proc" 2>/dev/null || true
    umount "$root/dev" 2>/dev/null || true
    rm -rf "$root"
}
trap clean EXIT
trap 'exit 1' INT TERM HUP

rm -rf "$root"
bare_debian "$root" "$dir/debootstrap.log" || fail "debootstrap"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"       # packages start no services here
chmod +x "$root/usr/sbin/policy-rc.d"
in_root() { chroot "$root" env -i HOME=/root DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
install() { in_root apt-get install -y -qq --no-install-recommends "$@" >"$dir/install.log" 2>&1 || { tail "$dir/install.log"; fail "apt-get install $*"; }; }
in_root apt-get update -qq
install git make
mkdir -p "$root/src/koalemos"
(cd "$top" && git ls-files -z | tar --null -T - -cf -) | tar -xf - -C "$root/src/koalemos"
if [ -n "$build" ]; then
    mkdir -p "$root/src/koalemos/build"
    cp -a "$build" "$root/src/koalemos/build/release"
fi

# ---- the README's first minute: its first command makes and runs it, the others talk to it ----
sed -n '/^## The first minute/,/^## /p' "$root/src/koalemos/README.md" | sed -n 's/^    \([a-z].*\)/\1/p' | grep -v '^remote_write:' >"$dir/commands"
[ "$(wc -l <"$dir/commands")" = 3 ] || { cat "$dir/commands"; fail "the first minute has three commands"; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
command=$(sed -n '1s/ *#.*//p' "$dir/commands")
[ "$command" = "make run" ] || fail "the first command is $command"
setsid chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /src/koalemos && exec $command LISTEN=127.0.0.1:$port" \
    >"$dir/run.log" 2>&1 </dev/null &
pid=$!
n=0
until in_root curl -fs "http://127.0.0.1:$port/-/ready" >/dev/null 2>&1; do
    n=$((n + 1))
    kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/run.log"; fail "$command has ended"; }
    [ $n -lt 3600 ] || { tail -n 20 "$dir/run.log"; fail "$command is not ready"; }
    sleep 1
done
sed -n '2,$p' "$dir/commands" | sed "s/127.0.0.1:4480/127.0.0.1:$port/" >"$root/src/talk.sh"
in_root sh -eu /src/talk.sh >"$dir/talk.log" 2>&1 || { cat "$dir/talk.log"; fail "the commands that talk to it"; }
grep -q '"1"' "$dir/talk.log" || { cat "$dir/talk.log"; fail "the greeting is not answered"; }
/bin/kill -INT -- "-$pid"
wait "$pid" || true
pid=
echo "ok  README: $(wc -l <"$dir/commands") commands"

# ---- docs/ ----
install python3 openssl procps prometheus victoria-metrics nats-server influxdb-client
mkdir -p "$root/src/peers/bin"
for program in nats-server prometheus promtool victoria-metrics vmagent vmalert influx; do
    in_root sh -c "ln -s \$(command -v $program) /src/peers/bin/$program" || fail "no package has $program"
done
in_root sh -c "cd /src/koalemos && python3 tests/e2e/run.py --bin build/release/bin --peers /src/peers/bin every_command" >"$dir/docs.log" 2>&1 ||
    { tail -n 30 "$dir/docs.log"; fail "docs"; }
grep -v '^ok' "$dir/docs.log"
