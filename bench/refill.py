#!/usr/bin/env python3
"""How long an ingestor takes that has lost its disk: with its snapshots in the object storage, and with the log alone.

    bench/refill.py --bin build/release/bin --peers build/peers/bin --push build/release/bench/push [--series 200000] [--samples 240] [--s3]

nats-server, a doorman, one ingestor, a querier. --samples of 15 s of each series are pushed; when all of its snapshots are
in the store an eighth more is; then the ingestor is killed, its folder removed, and it is started again: first with
the store's snapshots, then without. All samples are counted each time. The store is a folder, or --s3 Ceph's
radosgw. Prints JSON lines.
"""
import argparse
import json
import os
import shutil
import subprocess
import time

from hosts import cpu_seconds                          # first: it knows where koa is
import koa
from koa_cell import Cell, metric
from koa_s3 import S3

STEP_MS = 15000


def push(cell, first, last):
    args = [ARGS.push, str(cell.ports["doorman-0"]), str(ARGS.series), str(first), str(last), "2000", "8", "4", str(ARGS.begin_ms),
            str(STEP_MS), "0"]
    done = subprocess.run(args, capture_output=True, text=True)
    koa.check(done.returncode == 0, f"the load was not taken: {done.stderr}")


def check_count(cell, samples):
    at = (ARGS.begin_ms + (samples - 1) * STEP_MS) / 1000
    got = koa.one(cell.query, f"sum(count_over_time(bench_metric_42[{samples * STEP_MS // 1000 + 60}s]))", at)
    want = len(range(42, ARGS.series, 100)) * samples
    koa.check(got == want, f"{got} samples are there, not {want}")


def refill(cell, flags, what, samples):
    cell.ingestors[0].kill()
    shutil.rmtree(cell.world.path("ingestor-0"))
    cell.flags = flags
    begin = time.monotonic()
    cell.add_ingestor(0)
    cell.ready(600)
    took, cpu = time.monotonic() - begin, cpu_seconds(cell.ingestors[0])
    url = cell.url("ingestor-0")
    koa.eventually("it applies all", lambda: metric(url, "koalemos_ingestor_partitions") == 8, 60)
    print(json.dumps({"refilled": what, "to_ready_s": round(took, 1), "cpu_s": round(cpu, 1),
                      "snapshots": int(metric(url, "koalemos_ingestor_snapshots_from_store_total")),
                      "records_replayed": int(metric(url, "koalemos_ingestor_replayed_records_total"))}), flush=True)
    check_count(cell, samples)


def bench(world):
    flags = ["--ingestor.window=1d", "--ingestor.cut_delay=1d", "--ingestor.memory_max=64GiB", "--ingestor.snapshot_interval=20s"]
    cell = Cell(world, *flags, "--ingestor.snapshot_store_interval=30s", ingestors=1, replicas=1,
                store=S3(world).flags() if ARGS.s3 else None)
    cell.settled(["ingestor-0"])
    url = cell.url("ingestor-0")
    stored = lambda: metric(url, "koalemos_ingestor_snapshots_stored_total")  # noqa: E731
    push(cell, 0, ARGS.samples)
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 40:               # a partition that got nothing new is not put again
        if stored() != last:
            last, since = stored(), time.monotonic()
        time.sleep(1)
    count, cpu = stored(), cpu_seconds(cell.ingestors[0])
    print(json.dumps({"samples": ARGS.series * ARGS.samples, "stored": int(count), "cpu_s": round(cpu, 1),
                      "bytes_each": round(metric(url, "koalemos_ingestor_snapshots_stored_bytes_total") / count)}), flush=True)
    push(cell, ARGS.samples, ARGS.samples * 9 // 8)
    refill(cell, [*flags, "--ingestor.snapshot_store_interval=1d"], "from the store", ARGS.samples * 9 // 8)
    refill(cell, [*flags, "--ingestor.snapshot_store_interval=0"], "from the log", ARGS.samples * 9 // 8)


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peers", required=True)
    p.add_argument("--push", required=True)
    p.add_argument("--series", type=int, default=200000)
    p.add_argument("--samples", type=int, default=240)
    p.add_argument("--s3", action="store_true")
    ARGS = p.parse_args()
    ARGS.begin_ms = int(time.time() * 1000) - ARGS.samples * 9 // 8 * STEP_MS
    koa.BIN, koa.PEERS = os.path.abspath(ARGS.bin), os.path.abspath(ARGS.peers)
    with koa.World() as the_world:
        bench(the_world)
