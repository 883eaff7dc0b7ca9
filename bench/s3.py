#!/usr/bin/env python3
"""A dashboard over filesets in S3 (Ceph's radosgw beside it), cold and warm: requests, bytes, time.

    bench/s3.py --bin build/release/bin --peers build/peers/bin [--days 3] [--series 500] [--step 15]

One `koalemos serve` takes --series series for --days by remote write 1.0, flushes every two hours of data,
merges, and is started anew. Twelve panels over 24 h, a point each five minutes, are asked: cold; again, warm;
and the same a day earlier. Prints one line
a pass: seconds, requests to S3, bytes from it, blocks found on disk and not. Then the raw rates of the store.
"""
import argparse
import math
import os
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402
from koa_s3 import S3  # noqa: E402

METRICS = 20
PANELS = ["sum(rate(load_0_total[5m]))", "sum by (mode) (rate(load_1_total[5m]))", "max by (host) (load_2)",
          "avg(load_3)", "topk(5, load_4)", "quantile(0.9, load_5)", "sum by (host) (rate(load_6_total[10m]))",
          "count(load_7)", "min by (mode) (load_8)", "avg_over_time(load_9{host='h1'}[1h])",
          "rate(load_10_total{host='h2'}[5m])", "load_11{host='h3'}"]


def name(m):
    return f"load_{m}_total" if any(f"load_{m}_total" in p for p in PANELS) else f"load_{m}"


def samples(s, times, step_ms):
    return [(t, math.floor(1000 + 300 * math.sin(t / 4e6 + s) + (t // step_ms * 7919 + s) % 50)) for t in times]


def load(base, flush, begin, end, series, step_ms):
    sets = [{"__name__": name(s % METRICS), "host": f"h{s // METRICS // 4}", "mode": f"m{s // METRICS % 4}"}
            for s in range(series)]
    sent, cpu = 0, time.monotonic()
    for at in range(begin, end, 7_200_000):
        times = range(at, min(at + 7_200_000, end), step_ms)
        for k in range(0, series, 100):
            batch = [(sets[s], samples(s, times, step_ms)) for s in range(k, min(k + 100, series))]
            status, words = koa.push(base, batch)
            koa.check(status == 204, f"push: {status} {words}")
            sent += sum(len(b[1]) for b in batch)
        flush()
    print(f"loaded {sent} samples in {time.monotonic() - cpu:.0f} s (with the making of them)", flush=True)


def counters(base):
    _, _, body = koa.http(f"{base}/metrics")
    want = ("koalemos_store_requests_total", "koalemos_store_received_bytes_total", "koalemos_store_cache_hits_total",
            "koalemos_store_cache_misses_total")
    got = {l.split()[0]: float(l.split()[1]) for l in body.decode().splitlines() if l.split()[0] in want}
    return [got.get(w, 0) for w in want]


def dashboard(base, end, what):
    before, at = counters(base), time.monotonic()
    for panel in PANELS:
        q = urllib.parse.urlencode({"query": panel, "start": end / 1000 - 86400, "end": end / 1000, "step": 300})
        status, _, body = koa.http(f"{base}/api/v1/query_range?{q}")
        koa.check(status == 200 and b'"values"' in body and b"warnings" not in body, f"{panel}: {body[:300]}")
    took = time.monotonic() - at
    n, size, hits, misses = (b - a for a, b in zip(before, counters(base)))
    print(f"{what:28} {took:7.2f} s  {n:6.0f} requests  {size / 2**20:8.2f} MiB  blocks on disk {hits:6.0f}, "
          f"fetched {misses:6.0f}", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peers", required=True)
    p.add_argument("--days", type=float, default=3)
    p.add_argument("--series", type=int, default=500)
    p.add_argument("--step", type=int, default=15)
    a = p.parse_args()
    koa.BIN, koa.PEERS = os.path.abspath(a.bin), os.path.abspath(a.peers)
    with koa.World() as world:
        s3 = S3(world)
        ours = koa.Serve(world, *s3.flags(), "--limits.past", "0")
        end = int(time.time()) // 7200 * 7200 * 1000 - 7_200_000
        begin = end - int(a.days * 86400) * 1000
        load(ours.push, ours.flush_all, begin, end, a.series, a.step * 1000)
        time.sleep(30)                                 # merges
        objects = s3.list()
        data = sum(n for k, n in objects.items() if k.endswith("/data"))
        meta = sum(n for k, n in objects.items() if k.endswith("/meta"))
        print(f"in the bucket: {len(objects)} objects, data {data / 2**20:.1f} MiB, meta {meta / 2**20:.1f} MiB")
        for part in ("first", "second"):
            ours.process.stop()
            ours.process.start()
            ours.ready()
            dashboard(ours.query, end, f"cold, {part} start")
            dashboard(ours.query, end, "warm")
        dashboard(ours.query, end - 86_400_000, "a day earlier")
        dashboard(ours.query, end - 86_400_000, "warm")


if __name__ == "__main__":
    main()
