#!/bin/sh
# A Debian package of the programs in BIN, with units, configuration and a user of its own.
# Usage: deb.sh BIN OUT      prints the package's path
set -eu
bin=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
version=$(sed -n 's/^#define KL_APP_VERSION "\(.*\)"/\1/p' "$top/libkoal/app/app.h")
arch=$(dpkg --print-architecture)
tree=$out/koalemos_${version}_$arch
rm -rf "$tree"
install -d "$tree/DEBIAN" "$tree/usr/bin" "$tree/lib/systemd/system" "$tree/etc/koalemos" "$tree/etc/default" \
           "$tree/usr/share/doc/koalemos"
for p in koalemos doorman ingestor querier; do
    install -m 0755 "$bin/$p" "$tree/usr/bin/$p"
    strip --strip-unneeded "$tree/usr/bin/$p"
done
install -m 0644 "$here"/systemd/*.service "$tree/lib/systemd/system/"
install -m 0640 "$here/deb/koalemos.yaml" "$tree/etc/koalemos/koalemos.yaml"
for s in koalemos koalemos-doorman koalemos-ingestor koalemos-querier; do
    install -m 0644 "$here/deb/default" "$tree/etc/default/$s"
done
install -m 0644 "$top/README.md" "$top/ARCHITECTURE.md" "$tree/usr/share/doc/koalemos/"
install -d "$tree/usr/share/doc/koalemos/docs" "$tree/usr/share/doc/koalemos/deploy"
install -m 0644 "$top"/docs/*.md "$tree/usr/share/doc/koalemos/docs/"
install -m 0644 "$here"/*.md "$tree/usr/share/doc/koalemos/deploy/"
install -d "$tree/usr/share/koalemos/dashboards" "$tree/usr/share/koalemos/nats"
install -m 0644 "$here"/dashboards/*.json "$tree/usr/share/koalemos/dashboards/"
install -m 0644 "$here/alerts.yaml" "$tree/usr/share/koalemos/"
install -m 0644 "$here/nats/koalemos.conf" "$tree/usr/share/koalemos/nats/"

# What the programs are linked with, as packages, by the versions in which what they use came to be.
work=$(mktemp -d)
mkdir "$work/debian"
printf 'Source: koalemos\n\nPackage: koalemos\nArchitecture: any\n' >"$work/debian/control"
programs=
for p in koalemos doorman ingestor querier; do programs="$programs -e$(realpath "$tree")/usr/bin/$p"; done
# shellcheck disable=SC2086  # a list of options is meant
depends=$(cd "$work" && dpkg-shlibdeps -O $programs 2>"$work/said" | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { cat "$work/said" >&2; exit 1; }
rm -rf "$work"
size=$(du -sk "$tree" | cut -f1)
cat >"$tree/DEBIAN/control" <<C
Package: koalemos
Version: $version
Architecture: $arch
Maintainer: The Koalemos team <koalemos@localhost>
Installed-Size: $size
Depends: $depends, adduser
Section: database
Priority: optional
Description: time-series database for metrics, compatible with Prometheus
 Agents push to it as they push to Prometheus, dashboards ask it as they ask
 Prometheus. One process on one machine (koalemos serve), or a cluster of
 doormen, ingestors and queriers over NATS JetStream and S3.
C
(cd "$tree" && find etc -type f | sed 's|^|/|') >"$tree/DEBIAN/conffiles"
for s in postinst prerm postrm; do install -m 0755 "$here/deb/$s" "$tree/DEBIAN/$s"; done
dpkg-deb --root-owner-group --build "$tree" "$out" >/dev/null
rm -rf "$tree"
echo "$out/koalemos_${version}_$arch.deb"
