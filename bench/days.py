#!/usr/bin/env python3
"""Panels over many days, out of pieces of earlier answers: what they cost cold, warm, after late samples, after a flush.

    bench/days.py --bin build/release/bin --push build/release/bench/push [--days 30] [--series 3000] [--steps 300,420,...]

One `koalemos serve` takes --series series of a hundred metrics, a sample each five minutes, for --days by remote write 1.0, in
filesets of 24 h; started anew with its usual windows it takes today's, flushed but for the last hour. Then two panels, a sum by
zone of rates and a metric as it is, over all of it, at each step: cold; again, warm; two steps further, as a dashboard's next
refresh; after a late sample, some ten days old; at last all of them after a flush of what is in memory, and after the late fileset that it made was merged into the days that it
lies in, while each panel was asked once a second at the first step. One line each: seconds
until it is answered, CPU milliseconds of the process meanwhile, steps that were there, of all, and what the cache holds for this
panel at this step (at the end: in all).
"""
import argparse
import json
import os
import subprocess
import time
import urllib.parse

from hosts import cpu_seconds                           # first: it knows where koa is
import koa

HOUR, DAY, EACH = 3_600_000, 86_400_000, 300_000
PANELS = ["sum by (zone) (rate(bench_metric_11[10m]))", "bench_metric_11"]


def held(base):
    return koa.metric(base, "koalemos_querier_results_cache_bytes") / 1024


def load(ours, push, series, begin, first, last):
    done = subprocess.run([push, str(ours.port), str(series), str(first), str(last), "100", "60", "2", str(begin), str(EACH),
                           "0"], capture_output=True, text=True)
    koa.check(done.returncode == 0, f"push: {done.stderr}")
    koa.check(json.loads(done.stdout)["pushed_samples"] == series * (last - first), done.stdout)


def steps_of(ours):
    """Those that were there, and all, so far."""
    return [koa.metric(ours.query, f"koalemos_querier_results_cache_{w}_total") for w in ("hits", "steps")]


def ask(ours, what, panel, start, end, step, base_kib):
    q = urllib.parse.urlencode({"query": panel, "start": start / 1000, "end": end / 1000, "step": step // 1000})
    used, at = cpu_seconds(ours.process), time.monotonic()
    steps = steps_of(ours)
    status, _, body = koa.http(f"{ours.query}/api/v1/query_range?{q}", timeout=300)
    took, used = time.monotonic() - at, cpu_seconds(ours.process) - used
    koa.check(status == 200 and b'"values"' in body and b"warnings" not in body, f"{panel}: {body[:300]}")
    steps = [now - was for now, was in zip(steps_of(ours), steps)]
    print(f"{panel[:15]:15} step {step // 1000:6} {what:14} {took:7.3f} s  {used * 1000:6.1f} CPU ms  {steps[0]:6.0f} of {steps[1]:6.0f} "
          f"steps there  cache {held(ours.query) - base_kib:9.1f} KiB  answer {len(body) / 1024:8.1f} KiB", flush=True)


def config(world, bytes_max):
    with open(world.path("bench.yaml"), "w") as f:
        f.write(f"http: {{lifecycle: true}}\ncompaction: {{bytes_max: {bytes_max}, files: 2}}\n")


def merge(world, ours, end, begin, step):
    """All that is worth it, until half a minute has brought none more; as a dashboard looks on."""
    config(world, "256MiB")
    koa.check(koa.http(f"{ours.query}/-/reload", b"", method="POST")[0] == 200, "reload")
    done, since, before = 0, time.monotonic(), steps_of(ours)
    while time.monotonic() < since + 30:
        for panel in PANELS:
            q = urllib.parse.urlencode({"query": panel, "start": ((begin + step) // step * step + 2 * step) / 1000,
                                        "end": end // step * step / 1000, "step": step // 1000})
            koa.check(koa.http(f"{ours.query}/api/v1/query_range?{q}", timeout=300)[0] == 200, panel)
        now = koa.metric(ours.query, "koalemos_ingestor_compactions_total")
        if now != done:
            done, since = now, time.monotonic()
        time.sleep(1)
    koa.check(done > 0, "nothing was merged")
    there, of = (now - was for now, was in zip(steps_of(ours), before))
    print(f"{done:.0f} merges, asked meanwhile: {there:.0f} of {of:.0f} steps there", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bin", required=True)
    p.add_argument("--push", required=True)
    p.add_argument("--days", type=int, default=30)
    p.add_argument("--series", type=int, default=3000)
    p.add_argument("--steps", default="300,420,1800,3600,21600")
    a = p.parse_args()
    koa.BIN, push = os.path.abspath(a.bin), os.path.abspath(a.push)
    steps = [int(s) * 1000 for s in a.steps.split(",")]
    with koa.World() as world:
        flags = ["--limits.past", "0", "--log.level", "warn", "--querier.results_cache_max", "1GiB",
                 "--querier.results_cache_fresh", "1m"]
        ours = koa.Serve(world, *flags, "--ingestor.window", "24h", "--compaction.bytes_max", "0")
        now = int(time.time() * 1000)
        begin = now // DAY * DAY - a.days * DAY
        for day in range(a.days):
            load(ours, push, a.series, begin, day * (DAY // EACH), (day + 1) * (DAY // EACH))
            ours.flush_all()
        ours.process.stop()
        config(world, "0")
        ours = koa.Serve(world, *flags, "--ingestor.cut_delay", "24h", "--config", world.path("bench.yaml"), name="again")
        latest = (now - begin) // EACH
        flushed = max(latest - HOUR // EACH, a.days * (DAY // EACH))
        if flushed > a.days * (DAY // EACH):
            load(ours, push, a.series, begin, a.days * (DAY // EACH), flushed)
            ours.flush_all()
        load(ours, push, a.series, begin, flushed, latest)
        end, late = begin + (latest - 1) * EACH, begin + (a.days - 10) * DAY + 12 * HOUR
        base = {}
        for step in steps:
            for panel in PANELS:
                start, to = (begin + step) // step * step, end // step * step
                base[step, panel] = held(ours.query)
                ask(ours, "cold", panel, start, to - 2 * step, step, base[step, panel])
                ask(ours, "warm", panel, start, to - 2 * step, step, base[step, panel])
                ask(ours, "further", panel, start + 2 * step, to, step, base[step, panel])
                late += 1000
                koa.check(koa.push(ours.push, [({"__name__": "bench_metric_11", "zone": "zone-9"}, [(late, 1.0)])])[0] == 204, "late")
                ask(ours, "a late sample", panel, start + 2 * step, to, step, base[step, panel])
        for what in ("meanwhile", "unchanged", "after a flush", "after merges"):       # late samples came after the first were asked
            if what == "after a flush":
                ours.flush_all()
            if what == "after merges":
                merge(world, ours, end, begin, steps[0])
            for step in steps:
                for panel in PANELS:
                    start, to = (begin + step) // step * step, end // step * step
                    ask(ours, what, panel, start + 2 * step, to, step, 0)


if __name__ == "__main__":
    main()
