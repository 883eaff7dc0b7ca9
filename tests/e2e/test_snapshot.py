"""Snapshots: a killed server begins with its last one and replays only the tail; a damaged one costs no sample."""
import glob
import os
import time

import koa
import test_durability as durability
from koa import api, check, eventually, metric

FLAGS = ["--ingestor.snapshot_interval", "1s", "--ingestor.spill_least", "1", "--partitions", "2"]
SERIES, SAMPLES = 300, 300


def value(n, i):
    return float((n * 7919 + i * (n % 13 + 1) * 17) % 100_003)


def push(ours, begin_ms, first, last):
    for at in range(first, last, 20):
        series = [({"__name__": f"kept_{n % 7}", "n": str(n)},
                   [(begin_ms + i * 1000, value(n, i)) for i in range(at, min(at + 20, last))]) for n in range(SERIES)]
        status, words = koa.push(ours.push, series)
        check(status == 204, f"push: {status} {words}")


def verify(ours, begin_ms, count):
    end = (begin_ms + count * 1000) / 1000

    def ask():                                         # 503 while a partition begins anew is no answer
        return api(ours.query, "query", query='{__name__=~"kept_.*"}[1h]', time=f"{end:.3f}")["result"]
    result = eventually("an answer", ask, 60)
    check(len(result) == SERIES, f"{len(result)} series")
    for s in result:
        n = int(s["metric"]["n"])
        want = [((begin_ms + i * 1000) / 1000, value(n, i)) for i in range(count)]
        got = [(float(t), float(v)) for t, v in s["values"]]
        check(got == want, f"series {n}: {len(got)} samples, first difference "
                           f"{next((x for x in zip(got, want) if x[0] != x[1]), None)}")


def snapshot(ours):
    """Until everything pushed so far is in one."""
    before = None

    def still():
        nonlocal before
        was, before = before, metric(ours.push, "koalemos_ingestor_snapshots_total")
        return was == before and before > 0
    eventually("snapshots", still, 60, 3)


def begin():
    """In the block that is open, so that no cut comes in between."""
    return int(time.time() * 1000) // 1000 * 1000 - 400_000


def test_a_killed_server_replays_only_what_the_snapshot_has_not(world):
    ours = koa.Serve(world, "--ingestor.cut_delay", "24h", *FLAGS)
    t = begin()
    push(ours, t, 0, SAMPLES - 20)
    snapshot(ours)
    check(metric(ours.push, "koalemos_ingestor_spilled_bytes") > 0, "nothing was spilled")
    records = metric(ours.push, "koalemos_ingestor_records_total")
    push(ours, t, SAMPLES - 20, SAMPLES)
    ours.process.kill()
    ours.process.start()
    ours.ready()
    check(metric(ours.push, "koalemos_ingestor_snapshots_restored_total") >= 1, "no snapshot was used")
    replayed = metric(ours.push, "koalemos_ingestor_replayed_records_total")
    check(replayed <= records / 4, f"{replayed} records were replayed, the snapshot had {records}")
    verify(ours, t, SAMPLES)
    ours.flush_all()                                   # spilled chunks go into filesets
    verify(ours, t, SAMPLES)


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 4]))


def test_a_damaged_snapshot_is_named_set_aside_and_costs_nothing(world):
    ours = koa.Serve(world, "--ingestor.cut_delay", "24h", *FLAGS)
    t = begin()
    push(ours, t, 0, SAMPLES)
    for damaged in ("head", "chunks-*"):
        snapshot(ours)
        ours.process.kill()
        files = sorted(glob.glob(world.path("data", "snapshots", "*", damaged)))
        check(files, f"there is no {damaged}")
        for path in files:
            for at in range(30, os.path.getsize(path), 997):
                flip(path, at)
        ours.process.start()
        ours.ready()
        verify(ours, t, SAMPLES)                       # chunks are checked when they are read
        check(metric(ours.push, "koalemos_ingestor_snapshots_set_aside_total") >= 1, f"{damaged}: not set aside")
        words = ours.process.words()
        check("is set aside" in words and damaged.rstrip("*") in words, f"{damaged}: not named")
        check(glob.glob(world.path("data", "snapshots", "*", "*.bad")), "nothing is kept to be looked at")
    snapshot(ours)                                     # and they are made again
    ours.process.kill()
    ours.process.start()
    ours.ready()
    check(metric(ours.push, "koalemos_ingestor_snapshots_restored_total") >= 1, "no snapshot was made again")
    verify(ours, t, SAMPLES)


def test_kills_in_the_middle_of_snapshots_lose_no_acked_sample(world):
    ours = koa.Serve(world, "--ingestor.snapshot_interval", "300ms", "--ingestor.spill_least", "1", "--partitions", "4",
                     "--ingestor.cut_delay", "24h")
    durability.kills(world, ours, rounds=12, flush_every=4)
    check(metric(ours.push, "koalemos_ingestor_snapshots_set_aside_total") == 0, "a kill damaged a snapshot")
    check(metric(ours.push, "koalemos_ingestor_alarms_total") == 0, "a partition stopped")
