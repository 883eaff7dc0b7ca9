#!/bin/sh
# The real servers that tests talk to. Prints the folder that holds them, as links:
#   nats-server prometheus prometheus-node-exporter victoria-metrics vmagent vmalert promtool
# One that is on the PATH is used; else its Debian package is downloaded and unpacked below DIR: nothing
# is installed and no service is started on the machine.      Usage: peers.sh DIR
set -eu
dir=$1
mkdir -p "$dir/bin" "$dir/deb"

get() { # package, program...
    package=$1; shift
    for program in "$@"; do
        [ ! -x "$dir/bin/$program" ] || continue
        if found=$(command -v "$program"); then
            ln -sf "$found" "$dir/bin/$program"
            continue
        fi
        if [ ! -d "$dir/deb/$package" ]; then
            (cd "$dir/deb" && { apt-get download -qq "$package" || {
                if [ "$(id -u)" = 0 ]; then apt-get update -qq; else sudo apt-get update -qq; fi
                apt-get download -qq "$package"; }; }) >&2
            dpkg-deb -x "$dir/deb/$package"_*.deb "$dir/deb/$package"
        fi
        found=$(find "$dir/deb/$package" -name "$program" -type f -perm -u+x | head -n 1)
        [ -n "$found" ] || { echo "peers.sh: no program $program in package $package" >&2; exit 1; }
        ln -sf "$(realpath "$found")" "$dir/bin/$program"
    done
}

get nats-server nats-server
get prometheus prometheus promtool
get prometheus-node-exporter prometheus-node-exporter
get victoria-metrics victoria-metrics vmagent vmalert
echo "$dir/bin"
