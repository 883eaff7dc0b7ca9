# A bare Debian 12 in a folder, with this machine's sources of packages. Sourced: bare_debian ROOT LOG, or it returns 1.
bare_debian() {
    bare_mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
    debootstrap --variant=minbase bookworm "$1" "$bare_mirror" >"$2" 2>&1 || { tail "$2"; return 1; }
    for bare in /etc/apt/apt.conf /etc/apt/apt.conf.d /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf.d; do
        [ ! -e "$bare" ] || cp -rL "$bare" "$1/etc/apt/"
    done
    cp /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null || true
    for bare in /usr/share/keyrings /etc/apt/trusted.gpg.d /etc/ssl/certs /usr/local/share/ca-certificates; do
        [ ! -d "$bare" ] || { mkdir -p "$1$bare"; cp -rL "$bare/." "$1$bare/" 2>/dev/null || true; }
    done
}
