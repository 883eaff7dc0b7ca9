#!/bin/sh
# Asks apt for what is missing, and for nothing else.  Usage: setup.sh build|test|fuzz|deb
# `build`: what the programs are compiled from, and curl, which the first words to a new user need.
# `test`: that, and what the tests need besides; servers that the tests start are fetched by
# tests/peers.sh, unpacked beside the build and never installed. `fuzz`: the compiler with libFuzzer.
set -eu

build="gcc g++ make pkg-config protobuf-compiler nanopb libnanopb-dev libnats-dev libzstd-dev
 libsnappy-dev zlib1g-dev libmicrohttpd-dev libgnutls28-dev libnghttp2-dev libroaring-dev libxxhash-dev libisal-dev libre2-dev
 libyaml-dev libcurl4-openssl-dev libssl-dev libs3-dev curl"
test="check python3 python3-yaml iproute2 nftables binutils dpkg openssl zstd"
deb="dpkg-dev debootstrap curl python3"
fuzz="clang-14 libclang-rt-14-dev llvm"        # llvm: names of functions in what a fuzzer found

# Debian's, unless there is a node of another origin.
command -v node >/dev/null && command -v npm >/dev/null || test="$test nodejs npm"

case "${1:-}" in
build) want=$build ;;
test)  want="$build $test" ;;
fuzz)  want="$build $fuzz" ;;
deb)   want="$build $deb" ;;
*)     echo "usage: setup.sh build|test|fuzz|deb" >&2; exit 2 ;;
esac

missing=
for p in $want; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "These packages are missing, and this user may not install them. As root:" >&2
        echo "  apt-get update && apt-get install --no-install-recommends$missing" >&2
        exit 1
    }
    root=sudo
fi
echo "installing:$missing"
$root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
# shellcheck disable=SC2086  # a list of names is meant
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 \
    --no-install-recommends $missing >/dev/null
