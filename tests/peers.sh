#!/bin/sh
# The real servers that tests talk to, and node's modules of package.json (in DIR/npm). Prints the folder that
# holds the servers, as links:
#   nats-server nats-server-newer prometheus prometheus-node-exporter victoria-metrics vmagent vmalert promtool influx
# One that is on the PATH is used; else its Debian package is downloaded and unpacked below DIR: nothing
# is installed and no service is started on the machine.      Usage: peers.sh DIR
set -eu
dir=$1
mkdir -p "$dir/bin" "$dir/deb"

# As this user: apt's own user may not write into a checkout.
download() { (cd "$dir/deb" && apt-get download -qq -o APT::Sandbox::User=root "$1") >&2; }

# Unpacked aside first: an interrupted run would leave half a server to the next.
unpack() { # package
    rm -rf "$dir/deb/$1.part" "$dir/deb/$1"_*.deb
    download "$1" || {
        if [ "$(id -u)" = 0 ]; then apt-get update -qq >&2; else sudo apt-get update -qq >&2; fi
        download "$1"
    }
    dpkg-deb -x "$dir/deb/$1"_*.deb "$dir/deb/$1.part"
    mv "$dir/deb/$1.part" "$dir/deb/$1"
}

get() { # package, program...
    package=$1; shift
    for program in "$@"; do
        [ ! -x "$dir/bin/$program" ] || continue
        if found=$(command -v "$program"); then
            ln -sf "$found" "$dir/bin/$program"
            continue
        fi
        [ -d "$dir/deb/$package" ] || unpack "$package"
        # Nowhere else: below etc/init.d lies a script of the same name, which ends at once in silence.
        for found in "$dir/deb/$package/usr/bin/$program" "$dir/deb/$package/usr/sbin/$program"; do
            [ ! -x "$found" ] || ln -sf "$(realpath "$found")" "$dir/bin/$program"
        done
        [ -x "$dir/bin/$program" ] || {
            echo "peers.sh: no program $program in package $package" >&2; exit 1; }
    done
}

# The nats-server of the next Debian (2.10 for 2.9), since users run newer ones. Its suite is known to this folder alone: a list of
# its own, from the machine's own mirror, proved by Debian's keyring; the machine's apt never hears of it.
newer_suite=trixie
get_newer_nats() {
    program=$dir/bin/nats-server-newer
    [ ! -x "$program" ] || return 0
    apt=$(realpath "$dir")/apt-$newer_suite
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $(. /etc/os-release; echo "$VERSION_CODENAME")" |
        head -n 1)
    [ -n "$mirror" ] || {
        echo "peers.sh: apt knows no mirror of this Debian, so there is no newer nats-server; its tests say that they are left out" >&2
        return 0
    }
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$apt/deb"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] $mirror $newer_suite main" >"$apt/sources.list"
    set -- -qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o APT::Update::Error-Mode=any -o Dir::State::Lists="$apt/lists" \
        -o Dir::Cache="$apt/cache" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts="$apt/parts" \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$apt/parts"
    rm -f "$apt/deb"/*.deb
    { apt-get "$@" update && (cd "$apt/deb" && apt-get "$@" download nats-server); } >&2 || {
        echo "peers.sh: no nats-server from $(cat "$apt/sources.list"): is the mirror within reach, and does it have that suite?" \
            "The tests with it say that they are left out" >&2
        return 0
    }
    rm -rf "$apt/part"
    dpkg-deb -x "$apt/deb"/nats-server_*.deb "$apt/part"
    mv "$apt/part/usr/sbin/nats-server" "$apt/nats-server"
    rm -rf "$apt/part" "$apt/lists" "$apt/cache" "$apt/deb"
    ln -sf "$apt/nats-server" "$program"
}

get nats-server nats-server
get_newer_nats
get prometheus prometheus promtool
get prometheus-node-exporter prometheus-node-exporter
get victoria-metrics victoria-metrics vmagent vmalert
get influxdb-client influx

# What tests/package.json names, for node; anew when the lock file has changed.
here=$(dirname "$0")
lock=$(cksum <"$here/package-lock.json")
if [ "$lock" != "$(cat "$dir/npm/installed" 2>/dev/null)" ]; then
    rm -rf "$dir/npm"
    mkdir -p "$dir/npm"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$dir/npm/"
    (cd "$dir/npm" && npm ci --silent) >&2
    echo "$lock" >"$dir/npm/installed"
fi
echo "$dir/bin"
