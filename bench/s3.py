#!/usr/bin/env python3
"""A dashboard over filesets in an object storage, cold and warm: requests, bytes, time.

    bench/s3.py --bin build/release/bin --push build/release/bench/push --peers build/peers/bin
                [--store s3|dir] [--days 30] [--series 2000] [--step 60]

One `koalemos serve` takes --series series of a hundred metrics for --days by remote write 1.0, a day at a time, and
flushes into filesets of 24 h, as merges would leave them; it is started anew. Twelve panels over 24 h, a point each five minutes, are asked: cold; again, warm; and the
same for other days. Prints one line a pass: seconds, requests to the store and bytes from it; bytes of the data frames
that the panels needed and by how much more was fetched; bytes of index; the part of what was needed that was not
fetched. --limit makes a failure of a ratio that is missed.
"""
import argparse
import json
import os
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402
from koa_s3 import S3  # noqa: E402

# Of push.c: series n has metric n % 100, mode n % 4, cpu n % 16, zone n % 3; n / 7 % 20 is what it looks like.
PANELS = ["sum(rate(bench_metric_0[5m]))", "sum by (zone) (rate(bench_metric_8[5m]))", "max by (cpu) (bench_metric_16)",
          "avg(bench_metric_24)", "topk(5, bench_metric_32)", "quantile(0.9, bench_metric_40)",
          "sum by (job) (rate(bench_metric_48[10m]))", "count(bench_metric_56)", "min by (zone) (bench_metric_64)",
          "avg_over_time(bench_metric_72{zone='zone-1'}[1h])", "rate(bench_metric_80{zone='zone-2'}[5m])",
          "bench_metric_88{zone='zone-0'}"]
DAY = 86_400_000


def dashboard(base, panels, end, what):
    """One pass. Returns (bytes fetched for bytes of the frames needed, part of these that was not fetched)."""
    before, at = koa.stored(base), time.monotonic()
    for panel in panels:
        q = urllib.parse.urlencode({"query": panel, "start": end / 1000 - 86400, "end": end / 1000, "step": 300})
        status, _, body = koa.http(f"{base}/api/v1/query_range?{q}")
        koa.check(status == 200 and b'"values"' in body and b"warnings" not in body, f"{panel}: {body[:300]}")
    took = time.monotonic() - at
    after = koa.stored(base)
    d = {k: after[k] - before[k] for k in after}
    need, got = d["data", "wanted"], d["data", "store"]
    anew = need - d["data", "memory"] - d["data", "disk"]     # of the frames needed, such as were nowhere here
    ratio = got / anew if got > 0 else 0
    # Hits are of all frames, those of the index too: what was needed, less what the store was asked for.
    hits = 1 - (got + d["index", "store"]) / max(1, need + d["index", "wanted"])
    print(f"{what:24} {took:6.2f} s  {d['data', 'requests'] + d['index', 'requests']:5.0f} requests  data: needed "
          f"{need / 2**20:6.2f} MiB, from memory {d['data', 'memory'] / 2**20:6.2f}, disk {d['data', 'disk'] / 2**20:6.2f}, "
          f"store {got / 2**20:6.2f} ({ratio:.2f}x); index from the store {d['index', 'store'] / 2**20:5.2f}; "
          f"hits {100 * max(0, hits):.1f} %", flush=True)
    return ratio, hits


def load(ours, push, series, begin, days, step_ms):
    each = DAY // step_ms
    at = time.monotonic()
    for day in range(days):
        done = subprocess.run([push, str(ours.port), str(series), str(day * each), str((day + 1) * each), "100", "60",
                               "2", str(begin), str(step_ms), "0"], capture_output=True, text=True)
        koa.check(done.returncode == 0, f"push: {done.stderr}")
        koa.check(json.loads(done.stdout)["pushed_samples"] == series * each, done.stdout)
        ours.flush_all()
    print(f"{series * each * days} samples pushed and flushed in {time.monotonic() - at:.0f} s", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--push", required=True)
    p.add_argument("--peers", required=True)
    p.add_argument("--store", choices=["s3", "dir"], default="s3")
    p.add_argument("--days", type=int, default=30)
    p.add_argument("--series", type=int, default=2000)
    p.add_argument("--step", type=int, default=60)
    p.add_argument("--limit", action="store_true")
    a = p.parse_args()
    koa.BIN, koa.PEERS = os.path.abspath(a.bin), os.path.abspath(a.peers)
    with koa.World() as world:
        flags = S3(world).flags() if a.store == "s3" else []
        ours = koa.Serve(world, *flags, "--limits.past", "0", "--ingestor.window", "24h",
                         "--compaction.bytes_max", "0", "--log.level", "warn", "--querier.results_cache_max", "0")
        end = int(time.time()) // 86400 * DAY - DAY
        begin = end - a.days * DAY
        load(ours, os.path.abspath(a.push), a.series, begin, a.days, a.step * 1000)
        passes = [(end, "newest day"), (end - DAY * (a.days // 2) - 3_600_000 * 5, "two days' halves")]
        failed = []
        for start in ("a start", "another start"):
            ours.process.stop()
            ours.process.start()
            ours.ready()
            for to, what in passes:
                ratio, _ = dashboard(ours.query, PANELS, to, f"{what}, cold")
                if ratio > 1.5:
                    failed.append(f"{what}: fetched {ratio:.2f} times what was needed")
                _, hits = dashboard(ours.query, PANELS, to, f"{what}, warm")
                if hits < 0.985:
                    failed.append(f"{what}: {100 * hits:.1f} % of what was needed was there")
        koa.check(not (a.limit and failed), "; ".join(failed))


if __name__ == "__main__":
    main()
