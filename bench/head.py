#!/usr/bin/env python3
"""What a million active series cost `koalemos serve`: resident memory with two hours of 15 s samples, the time
from a kill -9 to ready, and label matchers over all of them.

    bench/head.py --bin build/release/bin --push build/release/bench/push [--series 1000000] [--samples 480]

The two hours are pushed as fast as they are taken, and the time between snapshots is compressed as they are; then
the server is started anew as it is by default, gets samples at the pace of 15 s a series for --live seconds, and is
killed in the middle of that. Prints JSON lines.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import koa  # noqa: E402

STEP_MS = 15000


def say(**fields):
    print(json.dumps(fields), flush=True)


def status_kb(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next((int(line.split()[1]) for line in f if line.startswith(key + ":")), 0)


def memory(ours, a, what):
    m, pid = koa.metrics(ours.push), ours.process.child.pid
    kinds = {k.split('"')[1]: round(v / a.series, 1) for k, v in m.items() if k.startswith("koalemos_ingestor_memory_bytes")}
    say(memory=what, series=int(m["koalemos_ingestor_series"]),
        resident_bytes_per_series=round(status_kb(pid, "VmRSS") * 1024 / a.series, 1),
        anonymous=round(status_kb(pid, "RssAnon") * 1024 / a.series, 1),
        peak=round(status_kb(pid, "VmHWM") * 1024 / a.series, 1),
        spilled_on_disk=round(m["koalemos_ingestor_spilled_bytes"] / a.series, 1),
        snapshot_heads_on_disk=round(m["koalemos_ingestor_snapshot_bytes"] / a.series, 1), head_by_kind=kinds)


def push(a, ours, first, last, together, rate=0, wait=True):
    child = subprocess.Popen([a.push, str(ours.port), str(a.series), str(first), str(last), "2000", str(together), "4",
                              str(a.begin_ms), str(STEP_MS), str(rate)], stdout=subprocess.PIPE, text=True)
    if not wait:
        return child
    out = child.communicate()[0]
    koa.check(child.returncode == 0, "the load was not taken")
    return json.loads(out)


def settled(ours):
    """Until no snapshot is under way that has something new."""
    before, since = -1, time.monotonic()
    while time.monotonic() - since < 12:
        now = koa.metrics(ours.push)["koalemos_ingestor_snapshots_total"]
        if now != before:
            before, since = now, time.monotonic()
        time.sleep(1)


def matchers(a, ours):
    at = (a.begin_ms + (a.samples - 1) * STEP_MS) / 1000
    for text in ('{job=~"a.*",instance!="10.0.7.0:9100"}', '{pod=~"service-7-000.*"}', '{pod=~".*-0000abcd"}',
                 'bench_metric_42{mode=~"user|idle",zone!~"zone-[01]"}'):
        query = urllib.parse.urlencode({"match[]": text, "start": at - 60, "end": at, "limit": 10})
        begin = time.monotonic()
        code, _, body = koa.http(f"{ours.query}/api/v1/series?{query}", timeout=300)
        say(matcher=text, status=code, milliseconds=round((time.monotonic() - begin) * 1000, 1),
            series_shown=len(json.loads(body).get("data") or []))


def check_count(a, ours, samples):
    at = (a.begin_ms + (samples - 1) * STEP_MS) / 1000
    span = samples * STEP_MS // 1000 + 60
    got = koa.one(ours.query, f"sum(count_over_time(bench_metric_42[{span}s]))", at)
    want = len(range(42, a.series, 100)) * samples
    koa.check(got >= want, f"{got} of {want} samples are there")
    return got


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--push", required=True)
    p.add_argument("--series", type=int, default=1000000)
    p.add_argument("--samples", type=int, default=480)
    p.add_argument("--together", type=int, default=8, help="samples of a series in one push of the compressed load")
    p.add_argument("--interval", default="10s", help="between snapshots, while the load is compressed")
    p.add_argument("--live", type=int, default=150, help="seconds at the pace of real time before the kill")
    p.add_argument("--kills", type=int, default=2)
    a = p.parse_args()
    koa.BIN = os.path.abspath(a.bin)
    # The present block: nothing is cut, as in the two hours before one is.
    a.begin_ms = int(time.time() * 1000) - a.samples * STEP_MS

    with koa.World() as world:
        flags = ["--ingestor.window", "1d", "--ingestor.cut_delay", "1d", "--ingestor.memory_max", "64GiB"]
        ours = koa.Serve(world, *flags, "--ingestor.snapshot_interval", a.interval)
        load = push(a, ours, 0, a.samples, a.together)
        say(load="compressed", samples=load["pushed_samples"], seconds=load["seconds"],
            server_cpu_s=round(ours.process.cpu_seconds(), 1))
        memory(ours, a, "at the end of the load")
        settled(ours)
        memory(ours, a, "and after the next snapshot")
        matchers(a, ours)
        check_count(a, ours, a.samples)
        ours.process.stop(60)
        ours = koa.Serve(world, *flags, name="again")
        memory(ours, a, "after a restart")
        rounds, whole = a.live * 1000 // STEP_MS + 2, a.samples     # of what is killed, nobody knows how much was taken
        for kill in range(a.kills):
            child = push(a, ours, a.samples, a.samples + rounds, 1, a.series / (STEP_MS / 1000), wait=False)
            time.sleep(a.live)
            memory(ours, a, "at the pace of real time")
            snapshots = koa.metrics(ours.push)["koalemos_ingestor_snapshots_total"]
            ours.process.kill()
            begin = time.monotonic()
            child.send_signal(signal.SIGKILL)
            child.wait()
            ours.process.start()
            while True:
                try:
                    if koa.http(f"{ours.push}/-/ready", timeout=5)[0] == 200:
                        break
                except OSError:
                    pass
                time.sleep(0.02)
            seconds = time.monotonic() - begin
            m = koa.metrics(ours.push)
            say(kill=kill, restart_to_ready_seconds=round(seconds, 2), snapshots_before=snapshots,
                snapshots_used=m["koalemos_ingestor_snapshots_restored_total"],
                replayed_records=m["koalemos_ingestor_replayed_records_total"],
                cpu_s=round(ours.process.cpu_seconds(), 2))
            check_count(a, ours, whole)
            a.samples += rounds
        log = sum(os.path.getsize(os.path.join(world.path("data", "log"), f)) for f in os.listdir(world.path("data", "log")))
        say(log_bytes=log, log_bytes_per_sample=round(log / (a.samples * a.series), 2))


main()
