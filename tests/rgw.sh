#!/bin/sh
# A real S3 server for the tests: one-node Ceph with its radosgw, of Debian's packages, on loopback.
#
#   rgw.sh PEERS COMMAND...     runs COMMAND with the server beside it, and ends the server with it
#   rgw.sh PEERS                fetches its packages and no more, for who will run it without a way to apt
#
# The packages are unpacked below PEERS/ceph, beside the other servers; nothing is installed. The
# server needs about a minute to come up, in which COMMAND runs already: it finds in its environment
#
#   KOA_S3_ENDPOINT KOA_S3_ACCESS_KEY KOA_S3_SECRET_KEY KOA_S3_BUCKET
#   KOA_S3_READY                a file: "up" once the server answers, or words why it never will
#
# and who needs S3 waits for that file. Where KOA_S3_ENDPOINT is set already, or KOA_S3=none says that
# there shall be no server, COMMAND is all that runs. KOA_S3_ADDRESS, KOA_S3_PORT: where it listens, if
# not on a free port of 127.0.0.1. One log a daemon lies in the server's folder.
set -eu
peers=$1; shift
[ -z "${KOA_S3_ENDPOINT:-}" ] && [ "${KOA_S3:-}" != none ] || { [ $# -gt 0 ] || exit 0; exec "$@"; }

mkdir -p "$peers/ceph"
ceph=$(realpath "$peers/ceph")

# All that apt would install for these four, and this machine lacks. Unpacked aside first: an
# interrupted run would leave half a server to the next.
fetch() {
    packages=$(apt-get install -s --no-install-recommends ceph-mon ceph-osd radosgw ceph-common |
               awk '$1 == "Inst" { print $2 }' | grep -vxE 'sudo|lvm2|dmeventd|liblvm2cmd2.03|libdevmapper-event1.*|cryptsetup-bin|gdisk|hdparm|libnvme1|nvme-cli|smartmontools|parted|xfsprogs|logrotate')
    rm -rf "$ceph/part" "$ceph/deb"
    mkdir -p "$ceph/part" "$ceph/deb"
    # shellcheck disable=SC2086  # a list of names is meant
    (cd "$ceph/deb" && apt-get download -qq -o APT::Sandbox::User=root $packages) >&2 || return 1
    for deb in "$ceph"/deb/*.deb; do
        dpkg-deb -x "$deb" "$ceph/part" || return 1
    done
    rm -rf "$ceph/deb"
    mv "$ceph/part" "$ceph/root"
}
have() { [ -d "$ceph/root" ] || { command -v radosgw && command -v ceph-mon && command -v ceph-osd; } >/dev/null; }
have || fetch || {
    if [ "$(id -u)" = 0 ]; then apt-get update -qq >&2; else sudo apt-get update -qq >&2; fi
    fetch
}

[ $# -gt 0 ] || exit 0

# Unpacked, or else the machine's own.
root=
[ ! -d "$ceph/root" ] || root=$ceph/root
lib=$root/usr/lib/$(dpkg --print-architecture | sed 's/amd64/x86_64/; s/arm64/aarch64/')-linux-gnu

# From below the range that the system gives to whoever connects.
free_port() {
    python3 -c 'import random, socket
while True:
    port, s = random.randrange(12000, 32000), socket.socket()
    try: s.bind(("127.0.0.1", port)); print(port); break
    except OSError: pass'
}

d=$(mktemp -d /tmp/koa-rgw-XXXXXX)
address=${KOA_S3_ADDRESS:-127.0.0.1}
port=${KOA_S3_PORT:-$(free_port)} mon_port=$(free_port)
mkdir -p "$d/mon" "$d/osd" "$d/rgw" "$d/log" "$d/run"
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$d/ceph.conf" <<C
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$mon_port]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = bluestore
osd memory target = 939524096
bluestore block size = 4294967296
bluestore fsck on mount = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
mon max pg per osd = 2000
osd class dir = $lib/rados-classes
plugin dir = $lib/ceph
erasure code dir = $lib/ceph/erasure-code
admin socket = $d/run/\$name.asok
run dir = $d/run
pid file = $d/run/\$name.pid
log file = $d/log/\$name.log
keyring = $d/keyring
mon data = $d/mon
osd data = $d/osd
rgw data = $d/rgw
rgw dns name =
rgw frontends = beast endpoint=$address:$port
rgw run sync thread = false
rgw enable usage log = false
ms bind ipv6 = false
C

# Everything of Ceph's runs with its libraries; COMMAND does not.
ceph_path=$root/usr/bin:$root/usr/sbin:$PATH
ceph_libraries=$lib:$lib/ceph:${lib%/usr/lib/*}/lib/${lib##*/}
ceph_run() { env PATH="$ceph_path" LD_LIBRARY_PATH="$ceph_libraries" CEPH_CONF="$d/ceph.conf" \
                 PYTHONPATH="$root/usr/lib/python3/dist-packages" "$@"; }
# Asks until it is so, at most a minute; a busy machine takes its time.
until_ok() {
    n=0
    until "$@" >/dev/null 2>&1; do
        n=$((n + 1)); [ $n -lt 120 ] || { echo "gave up waiting for: $*"; return 1; }
        sleep 0.5
    done
}
daemon() { # name, program and flags: in the foreground, as our child, so that its id is known
    name=$1; shift
    (exec env PATH="$ceph_path" LD_LIBRARY_PATH="$ceph_libraries" CEPH_CONF="$d/ceph.conf" "$@" -f) \
        >"$d/log/$name.out" 2>&1 & echo $! >>"$d/pids"
}
osd_is_up() { ceph_run ceph osd stat 2>/dev/null | grep -q '1 up'; }
answers() { curl --noproxy '*' -s -o /dev/null "http://$address:$port/"; }

up() {
    ceph_run monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port]" "$d/monmap"
    ceph_run ceph-authtool --create-keyring "$d/keyring" --gen-key -n client.admin \
             --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' --cap mds 'allow *'
    ceph_run ceph-authtool --create-keyring "$d/mon.keyring" --gen-key -n mon. --cap mon 'allow *'
    ceph_run ceph-authtool "$d/mon.keyring" --import-keyring "$d/keyring"
    ceph_run ceph-mon --mkfs -i a --monmap "$d/monmap" --keyring "$d/mon.keyring"
    daemon mon ceph-mon -i a
    until_ok ceph_run timeout 5 ceph -s
    osd=$(cat /proc/sys/kernel/random/uuid)
    ceph_run ceph osd new "$osd" 0
    ceph_run ceph auth get-or-create osd.0 mon 'allow profile osd' mgr 'allow profile osd' osd 'allow *' \
             >>"$d/keyring"
    ceph_run ceph-osd -i 0 --mkfs --osd-uuid "$osd"
    ceph_run ceph osd crush add osd.0 1.0 root=default host=h0
    daemon osd ceph-osd -i 0
    until_ok osd_is_up
    ceph_run radosgw-admin user create --uid=t --display-name=t --access-key=AKTEST --secret-key=SKTEST
    ceph_run ceph auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' mgr 'allow rw' >>"$d/keyring"
    daemon rgw radosgw -n client.rgw.a --keyring="$d/keyring"
    until_ok answers
    curl --noproxy '*' -sf -o /dev/null --aws-sigv4 aws:amz:us-east-1:s3 --user AKTEST:SKTEST \
         -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' -X PUT "http://$address:$port/koalemos-tests"
}

start() { # what failed is told to whoever waits
    set +e
    (set -e; up) >"$d/log/start" 2>&1
    if [ $? = 0 ]; then echo up >"$d/ready.part"
    else { echo "Ceph's radosgw did not start:"; tail -n 5 "$d/log/start"; } >"$d/ready.part"
    fi
    mv "$d/ready.part" "$d/ready"
}

end() {
    trap - EXIT INT TERM HUP
    kill "$starter" 2>/dev/null && wait "$starter" 2>/dev/null || true
    for pid in $(cat "$d/pids" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$d"
}
trap end EXIT
trap 'exit 1' INT TERM HUP
: >"$d/pids"
start & starter=$!

status=0
env KOA_S3_ENDPOINT="http://$address:$port" KOA_S3_ACCESS_KEY=AKTEST KOA_S3_SECRET_KEY=SKTEST \
    KOA_S3_BUCKET=koalemos-tests KOA_S3_READY="$d/ready" "$@" || status=$?
exit $status
