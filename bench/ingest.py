#!/usr/bin/env python3
"""What a pushed sample costs a server, in CPU seconds of the whole process.

    bench/ingest.py --bin build/release/bin [--peers build/peers/bin] [--series 10000] [--samples 1000000]
                    [--per-request 2000] [--per-series 1] [--connections 4] [--format rw1|otlp|otlp-gzip]

Remote write 1.0, bodies made beforehand, compressed by snappy as an agent does; ten labels a series.
Prints one JSON line a server; with --peers also Debian's victoria-metrics and prometheus, in the same run.
--format otlp: the same series as gauges of one resource, their labels as attributes; the peers know no OTLP.
"""
import argparse
import gzip
import http.client
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402
import others  # noqa: E402


def labels(n):
    return {"__name__": f"bench_metric_{n % 100}", "cluster": "eu-west-1", "namespace": f"team-{n % 20}",
            "pod": f"service-{n % 50}-{n:08x}", "container": "main", "instance": f"10.0.{n % 250}.{n // 250 % 250}:9100",
            "job": "node", "mode": ["user", "system", "idle", "iowait"][n % 4], "cpu": str(n % 16), "zone": f"zone-{n % 3}"}


def bodies(a, begin_ms):
    """One list of bodies a connection; a series stays on its connection, its samples in order."""
    per_connection = [[] for _ in range(a.connections)]
    rounds = max(1, a.samples // (a.series * a.per_series))
    encoded = [b"".join(koa._field(1, koa._field(1, k.encode()) + koa._field(2, v.encode()))
                        for k, v in sorted(labels(n).items())) for n in range(a.series)]
    for r in range(rounds):
        for first in range(0, a.series, a.per_request):
            message = bytearray()
            for n in range(first, min(first + a.per_request, a.series)):
                body = encoded[n]
                for s in range(a.per_series):
                    i = r * a.per_series + s
                    body += (b"\x12" + bytes([9 + 1 + len(koa._varint(begin_ms + i * 15000))]) + b"\x09" +
                             koa.struct.pack("<d", float((n * 17 + i * (n % 7)) % 100000)) + b"\x10" +
                             koa._varint(begin_ms + i * 15000))
                message += b"\x0a" + koa._varint(len(body)) + body
            per_connection[first // a.per_request % a.connections].append(koa.snappy(bytes(message)))
    return per_connection, rounds * a.series * a.per_series


def otlp_bodies(a, begin_ms):
    """The same as OTLP: a request holds one resource, each metric once, and a data point a series."""
    field, varint = koa._field, koa._varint
    text = lambda k, v: field(1, k.encode()) + field(2, field(1, v.encode()))
    per_connection = [[] for _ in range(a.connections)]
    rounds = max(1, a.samples // a.series)
    encoded = [b"".join(field(7, text(k, v)) for k, v in sorted(labels(n).items()) if k not in ("__name__", "job"))
               for n in range(a.series)]
    resource = field(1, field(1, text("service.name", "node")) + field(1, text("host.name", "box")))
    for r in range(rounds):
        time_ns = b"\x19" + koa.struct.pack("<Q", (begin_ms + r * 15000) * 1_000_000)
        for first in range(0, a.series, a.per_request):
            points = {}
            for n in range(first, min(first + a.per_request, a.series)):
                body = time_ns + b"\x21" + koa.struct.pack("<d", float((n * 17 + r * (n % 7)) % 100000)) + encoded[n]
                points.setdefault(n % 100, bytearray()).extend(b"\x0a" + varint(len(body)) + body)
            metrics = b"".join(field(2, field(1, b"bench_metric_%d" % m) + field(5, bytes(p))) for m, p in points.items())
            message = field(1, resource + field(2, metrics))
            per_connection[first // a.per_request % a.connections].append(
                gzip.compress(message, 1) if a.format == "otlp-gzip" else message)
    return per_connection, rounds * a.series


OTLP = {"Content-Type": "application/x-protobuf"}


def send(port, path, batch, errors, headers):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for body in batch:
        for _ in range(100):
            c.request("POST", path, body, headers)
            r = c.getresponse()
            words = r.read()
            if r.status in (200, 204):
                break
            if r.status not in (429, 503):
                errors.append(f"{r.status} {words[:200]!r}")
                return
            time.sleep(0.1)
        else:
            errors.append(f"refused for ever: {r.status} {words[:200]!r}")
            return


def measure(name, process, port, path, load, samples, count, headers=koa.RW1):
    errors = []
    idle = process.cpu_seconds()
    begin = time.monotonic()
    threads = [threading.Thread(target=send, args=(port, path, batch, errors, headers)) for batch in load]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wall, cpu = time.monotonic() - begin, process.cpu_seconds() - idle
    time.sleep(3)                                      # what it does afterwards is part of the cost
    settled = process.cpu_seconds() - idle
    koa.check(not errors, f"{name}: {errors[:1]}")
    print(json.dumps({"server": name, "samples": samples, "cpu_s": round(cpu, 3), "cpu_s_settled": round(settled, 3),
                      "wall_s": round(wall, 3), "samples_per_cpu_s": round(samples / max(settled, 0.01)),
                      "resident_mib": round(process.resident_bytes() / 2**20, 1), "counted": count()}), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peers")
    p.add_argument("--series", type=int, default=10_000)
    p.add_argument("--samples", type=int, default=1_000_000)
    p.add_argument("--per-request", type=int, default=2000)
    p.add_argument("--per-series", type=int, default=1)
    p.add_argument("--connections", type=int, default=4)
    p.add_argument("--format", choices=("rw1", "otlp", "otlp-gzip"), default="rw1")
    a = p.parse_args()
    koa.BIN = os.path.abspath(a.bin)
    rounds = max(1, a.samples // (a.series * a.per_series)) * a.per_series
    begin_ms = int(time.time() * 1000) - rounds * 15000
    load, samples = bodies(a, begin_ms) if a.format == "rw1" else otlp_bodies(a, begin_ms)
    path = "/api/v1/write" if a.format == "rw1" else "/otlp/v1/metrics"
    headers = {"rw1": koa.RW1, "otlp": OTLP, "otlp-gzip": {**OTLP, "Content-Encoding": "gzip"}}[a.format]
    span = rounds * 15 + 600

    def counter(base):
        return lambda: koa.one(base, f'sum(count_over_time({{job="node",__name__=~"bench.*"}}[{span}s]))')
    with koa.World() as w:
        ours = koa.Serve(w, "--limits.past", "3650d")
        measure("koalemos", ours.process, ours.port, path, load, samples, counter(ours.query), headers)
    if not a.peers or a.format != "rw1":
        return
    peers = os.path.abspath(a.peers)
    with koa.World() as w:
        v, port = others.victoria(w, peers)
        measure("victoria-metrics", v, port, "/api/v1/write", load, samples, lambda: None)
    with koa.World() as w:
        v, port = others.prometheus(w, peers)
        measure("prometheus", v, port, "/api/v1/write", load, samples, lambda: None)


if __name__ == "__main__":
    main()
